-- min_code: 1
--
-- Dead letters are the runs that failed, or that killed their workers, and wait for a person. Those that a person has
-- put away are marked here, at the position at which they were dead; one that goes on and dies again is a new one.

CREATE TABLE dead_letters (
    run TEXT NOT NULL PRIMARY KEY REFERENCES workflow_runs (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    discarded_at INTEGER NOT NULL
) WITHOUT ROWID;
