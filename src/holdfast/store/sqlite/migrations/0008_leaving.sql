-- min_code: 1
--
-- Runs that are deleted, but for rows of which there may be very many: these go a few at a time, so that no commit
-- waits for all of them.

CREATE TABLE leaving (
    run TEXT NOT NULL PRIMARY KEY
) WITHOUT ROWID;
