-- min_code: 1
--
-- Results of steps that later steps may take instead of running. An entry stands by itself: the run that made it may be
-- deleted, unless it is the owner. `key` and `family` are hashes, `parts` the hashes of what the result was made of.

CREATE TABLE cache (
    key TEXT NOT NULL PRIMARY KEY,
    family TEXT NOT NULL,
    scope TEXT NOT NULL,
    workflow TEXT NOT NULL,
    step TEXT NOT NULL,
    run TEXT NOT NULL,
    at INTEGER NOT NULL,
    owner TEXT REFERENCES workflow_runs (id) ON DELETE CASCADE,
    expires INTEGER NOT NULL,
    parts TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX cache_family ON cache (family, at);
CREATE INDEX cache_expires ON cache (expires) WHERE expires > 0;
CREATE INDEX cache_owner ON cache (owner) WHERE owner IS NOT NULL;
