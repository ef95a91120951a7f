-- min_code: 1
--
-- Circuit breakers, rate limits and bulkheads: rows that processes change together, as JSON. Who writes one says which
-- version it goes by.

CREATE TABLE limits (
    name TEXT NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL,
    body TEXT NOT NULL
) WITHOUT ROWID;
