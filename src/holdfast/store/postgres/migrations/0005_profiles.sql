-- min_code: 1
--
-- Named settings of a workflow's stages, as JSON. A run keeps its own copy in its first fact.

CREATE TABLE holdfast.profiles (
    workflow text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (workflow, name)
);
