-- min_code: 1
--
-- Dead letters are the runs that failed, or that killed their workers, and wait for a person. Those that a person has
-- put away are marked here, at the position at which they were dead; one that goes on and dies again is a new one.

CREATE TABLE holdfast.dead_letters (
    run text COLLATE "C" NOT NULL PRIMARY KEY REFERENCES holdfast.workflow_runs (id) ON DELETE CASCADE,
    position bigint NOT NULL,
    discarded_at bigint NOT NULL
);
