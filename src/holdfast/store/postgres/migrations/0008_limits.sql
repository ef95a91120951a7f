-- min_code: 1
--
-- Circuit breakers, rate limits and bulkheads: rows that processes change together, as JSON. Who writes one says which
-- version it goes by.

CREATE TABLE holdfast.limits (
    name text COLLATE "C" NOT NULL PRIMARY KEY,
    version bigint NOT NULL,
    body json NOT NULL
);
