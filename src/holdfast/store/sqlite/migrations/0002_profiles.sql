-- min_code: 1
--
-- Named settings of a workflow's stages, as JSON. A run keeps its own copy in its first fact.

CREATE TABLE profiles (
    workflow TEXT NOT NULL,
    name TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (workflow, name)
) WITHOUT ROWID;
