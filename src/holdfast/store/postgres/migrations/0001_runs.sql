-- min_code: 1
--
--   workflow_runs   one row per run: what people list runs by, and the lock (position) and the fence (epoch)
--   journal         the ordered facts of a run, one row per commit: the only truth about it
--   checkpoints     stored folds of journals: a cache
--   payloads        large values by hash, and large params
--   inbox           arrivals that wait for the run's holder; `due` is 0 once it may be taken
--   jobs            runs that somebody must drive, with the worker that holds them
--   workers         processes that drive runs, with their leases; kept after they stopped
--   tombstones      ids of deleted runs
--   eras            numbers the servers that the database was on, as far as the order of commits must know
--   hints           transactions whose writes are to be looked at
--   run_tags        the tags of runs once more, to find runs by tag
--   facts, stages, decisions   views on the journal, for people
--
-- Instants are microseconds since 1970 (UTC), 0 means never; the views show them as text. Lists and objects are JSON.
--
-- Who writes any row of a run holds the lock on the run's row in workflow_runs, taken first and, of several runs, in
-- the order of their ids. So writers of one run take turns, and none of them waits in a circle. Claims and the moving
-- of due arrivals skip what is locked. There are no foreign keys: each would lock the run's row once more per row.

CREATE TABLE holdfast.schema_version (
    version bigint PRIMARY KEY,
    min_code bigint NOT NULL,
    applied_at bigint NOT NULL
);

CREATE TABLE holdfast.workflow_runs (
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    workflow text COLLATE "C" NOT NULL,
    version text NOT NULL,
    hash text NOT NULL,
    status text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    priority bigint NOT NULL,
    tags text NOT NULL,
    -- NULL when large: then in `payloads` under the hash 'params', since each commit writes this row anew.
    params json,
    secrets text NOT NULL,
    parent text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    epoch bigint NOT NULL,
    last_commit text NOT NULL,
    waiting_on text NOT NULL,
    error text,
    progress text,
    format bigint NOT NULL,
    created_at bigint NOT NULL,
    started_at bigint NOT NULL,
    completed_at bigint NOT NULL,
    updated_at bigint NOT NULL
) WITH (
    -- Room in each page, so that a commit, which sets no indexed column, finds it there and touches no index.
    fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02
);
CREATE INDEX workflow_runs_created ON holdfast.workflow_runs (created_at, id);
CREATE INDEX workflow_runs_status ON holdfast.workflow_runs (status, created_at, id);
CREATE INDEX workflow_runs_workflow ON holdfast.workflow_runs (workflow, status, created_at, id);
CREATE INDEX workflow_runs_parent ON holdfast.workflow_runs (parent) WHERE parent <> '';

CREATE TABLE holdfast.run_tags (
    tag text COLLATE "C" NOT NULL,
    created_at bigint NOT NULL,
    run text COLLATE "C" NOT NULL,
    PRIMARY KEY (tag, created_at, run)
);
CREATE INDEX run_tags_run ON holdfast.run_tags (run);

-- `position` is that of the row's first fact, counted from 1: a commit made at position n (n facts before it) is the
-- row with position n + 1. (era, tx, seq) orders the commits of all runs: rows of transactions that began to write
-- later come later, whenever they become visible. A reader who stops below the oldest transaction still writing misses
-- none. An era ends when the database is restored on a server whose transactions have smaller numbers.
CREATE TABLE holdfast.journal (
    run text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    count bigint NOT NULL,
    at bigint NOT NULL,
    seq bigint GENERATED ALWAYS AS IDENTITY (CACHE 1),
    tx xid8 NOT NULL DEFAULT pg_current_xact_id(),
    era bigint NOT NULL DEFAULT 0,
    epoch bigint NOT NULL,
    commit_id text NOT NULL,
    worker text COLLATE "C" NOT NULL,
    facts json NOT NULL,
    PRIMARY KEY (run, position)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
CREATE INDEX journal_order ON holdfast.journal (era, tx, seq);

CREATE TABLE holdfast.checkpoints (
    run text COLLATE "C" NOT NULL,
    hash text NOT NULL,
    position bigint NOT NULL,
    at bigint NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (run, hash, position)
);

CREATE TABLE holdfast.payloads (
    run text COLLATE "C" NOT NULL,
    hash text COLLATE "C" NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (run, hash)
);

CREATE TABLE holdfast.inbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run text COLLATE "C" NOT NULL,
    key text COLLATE "C",
    due bigint NOT NULL,
    at bigint NOT NULL,
    fact json,
    UNIQUE (run, key)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
CREATE INDEX inbox_due ON holdfast.inbox (due, id) WHERE due > 0;

CREATE TABLE holdfast.jobs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run text COLLATE "C" NOT NULL UNIQUE,
    queue text COLLATE "C" NOT NULL,
    workflow text COLLATE "C" NOT NULL,
    priority bigint NOT NULL,
    worker text COLLATE "C" NOT NULL DEFAULT '',
    deaths bigint NOT NULL DEFAULT 0,
    wakes bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
CREATE INDEX jobs_ready ON holdfast.jobs (queue, workflow, priority DESC, id) WHERE worker = '';
CREATE INDEX jobs_held ON holdfast.jobs (worker) WHERE worker <> '';

CREATE TABLE holdfast.workers (
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    host text NOT NULL,
    boot text NOT NULL,
    namespace text NOT NULL,
    pid bigint NOT NULL,
    lock text NOT NULL,
    queues text NOT NULL,
    workflows text NOT NULL,
    version text NOT NULL,
    started_at bigint NOT NULL,
    leased_until bigint NOT NULL,
    stopped_at bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE holdfast.tombstones (
    run text COLLATE "C" NOT NULL PRIMARY KEY,
    at bigint NOT NULL
);

-- Transactions that wrote something to be looked at without a row in the journal: arrivals, jobs made ready. A hint
-- that is lost costs a moment, hence no log.
CREATE UNLOGGED TABLE holdfast.hints (
    tx xid8 NOT NULL PRIMARY KEY DEFAULT pg_current_xact_id()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

CREATE TABLE holdfast.eras (
    era bigint NOT NULL PRIMARY KEY,
    begun_at bigint NOT NULL
);
INSERT INTO holdfast.eras VALUES (0, 0);

-- Returns today's era; begins one when the last commit's transaction has a number that this server never gave.
CREATE FUNCTION holdfast.begin_era() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    today bigint;
    begins boolean;
BEGIN
    FOR tries IN 1 .. 2 LOOP
        SELECT max(era) INTO today FROM holdfast.eras;
        SELECT tx >= pg_snapshot_xmax(pg_current_snapshot()) INTO begins
        FROM holdfast.journal WHERE era = today ORDER BY tx DESC, seq DESC LIMIT 1;
        EXIT WHEN begins IS NOT TRUE;
        IF tries = 1 THEN
            LOCK TABLE holdfast.eras IN SHARE ROW EXCLUSIVE MODE;
        ELSE
            today := today + 1;
            INSERT INTO holdfast.eras VALUES (today, holdfast.instant(NULL));
        END IF;
    END LOOP;
    RETURN today;
END $$;

-- The store's clock: the instant given (tests have a clock of their own), else the server's, when the transaction began.
CREATE FUNCTION holdfast.instant(given bigint) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce(given, (extract(epoch FROM now()) * 1000000)::bigint)
$$;
