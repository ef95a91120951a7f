-- min_code: 1
--
--   chunks   what steps sent to readers while they ran, in order; `data` is NULL where a repeated attempt began anew.
--            `position` is how many facts the run had then. They go with their run.

CREATE TABLE chunks (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    run TEXT NOT NULL REFERENCES workflow_runs (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    step TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    at INTEGER NOT NULL,
    data TEXT
);
CREATE INDEX chunks_run ON chunks (run, number);
