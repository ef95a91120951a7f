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
--   run_tags        the tags of runs once more, to find runs by tag
--   facts, stages, decisions   views on the journal, for people
--
-- Instants are microseconds since 1970 (UTC), 0 means never; the views show them as text. Lists and objects are JSON.

PRAGMA application_id = 1215261796;

CREATE TABLE schema_version (
    version INTEGER PRIMARY KEY,
    min_code INTEGER NOT NULL,
    applied_at INTEGER NOT NULL
);

CREATE TABLE workflow_runs (
    id TEXT NOT NULL PRIMARY KEY,
    workflow TEXT NOT NULL,
    version TEXT NOT NULL,
    hash TEXT NOT NULL,
    status TEXT NOT NULL,
    queue TEXT NOT NULL,
    priority INTEGER NOT NULL,
    tags TEXT NOT NULL,
    -- NULL when large: then in `payloads` under the hash 'params', since each commit writes this row anew.
    params TEXT,
    secrets TEXT NOT NULL,
    parent TEXT NOT NULL,
    position INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    last_commit TEXT NOT NULL,
    waiting_on TEXT NOT NULL,
    error TEXT,
    progress TEXT,
    format INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    completed_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE INDEX workflow_runs_created ON workflow_runs (created_at, id);
CREATE INDEX workflow_runs_status ON workflow_runs (status, created_at, id);
CREATE INDEX workflow_runs_workflow ON workflow_runs (workflow, status, created_at, id);
CREATE INDEX workflow_runs_parent ON workflow_runs (parent) WHERE parent <> '';

CREATE TABLE run_tags (
    tag TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    run TEXT NOT NULL REFERENCES workflow_runs (id) ON DELETE CASCADE,
    PRIMARY KEY (tag, created_at, run)
) WITHOUT ROWID;
CREATE INDEX run_tags_run ON run_tags (run);

-- `position` is that of the row's first fact, counted from 1: a commit made at position n (n facts before it)
-- is the row with position n + 1.
CREATE TABLE journal (
    -- AUTOINCREMENT: a reader of the tail must not miss a commit because a deleted one had its number.
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    run TEXT NOT NULL REFERENCES workflow_runs (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    count INTEGER NOT NULL,
    at INTEGER NOT NULL,
    commit_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    worker TEXT NOT NULL,
    facts TEXT NOT NULL,
    UNIQUE (run, position)
);

CREATE TABLE checkpoints (
    run TEXT NOT NULL REFERENCES workflow_runs (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    hash TEXT NOT NULL,
    at INTEGER NOT NULL,
    data BLOB NOT NULL,
    UNIQUE (run, hash, position)
);

CREATE TABLE payloads (
    run TEXT NOT NULL REFERENCES workflow_runs (id) ON DELETE CASCADE,
    hash TEXT NOT NULL,
    data BLOB NOT NULL,
    UNIQUE (run, hash)
);

-- AUTOINCREMENT: the id of a consumed row must not come back while a holder remembers it.
CREATE TABLE inbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run TEXT NOT NULL REFERENCES workflow_runs (id) ON DELETE CASCADE,
    key TEXT,
    due INTEGER NOT NULL,
    at INTEGER NOT NULL,
    fact TEXT NOT NULL,
    UNIQUE (run, key)
);
CREATE INDEX inbox_due ON inbox (due) WHERE due > 0;

CREATE TABLE jobs (
    id INTEGER PRIMARY KEY,
    run TEXT NOT NULL UNIQUE REFERENCES workflow_runs (id) ON DELETE CASCADE,
    queue TEXT NOT NULL,
    workflow TEXT NOT NULL,
    priority INTEGER NOT NULL,
    worker TEXT NOT NULL DEFAULT '',
    deaths INTEGER NOT NULL DEFAULT 0,
    wakes INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX jobs_ready ON jobs (queue, workflow, priority DESC, id) WHERE worker = '';
CREATE INDEX jobs_held ON jobs (worker) WHERE worker <> '';

CREATE TABLE workers (
    id TEXT NOT NULL PRIMARY KEY,
    host TEXT NOT NULL,
    boot TEXT NOT NULL,
    namespace TEXT NOT NULL,
    pid INTEGER NOT NULL,
    lock TEXT NOT NULL,
    queues TEXT NOT NULL,
    workflows TEXT NOT NULL,
    version TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    leased_until INTEGER NOT NULL,
    stopped_at INTEGER NOT NULL
);

CREATE TABLE tombstones (
    run TEXT NOT NULL PRIMARY KEY,
    at INTEGER NOT NULL
) WITHOUT ROWID;

-- One row per fact.
CREATE VIEW facts AS
SELECT
    journal.run AS run,
    journal.position + fact.key AS position,
    json_extract(fact.value, '$.fact') AS fact,
    strftime('%Y-%m-%dT%H:%M:%S', coalesce(json_extract(fact.value, '$.at'), journal.at) / 1000000, 'unixepoch')
        || printf('.%06dZ', coalesce(json_extract(fact.value, '$.at'), journal.at) % 1000000) AS at,
    coalesce(json_extract(fact.value, '$.at'), journal.at) AS at_us,
    journal.worker AS worker,
    journal.commit_id AS commit_id,
    fact.value AS body
FROM journal, json_each(journal.facts) AS fact;

-- One row per edge that a decision tried.
CREATE VIEW decisions AS
SELECT
    facts.run AS run,
    facts.position AS position,
    json_extract(facts.body, '$.source') AS from_node,
    json_extract(edge.value, '$.target') AS to_node,
    coalesce(json_extract(edge.value, '$.name'), '') AS name,
    coalesce(json_extract(edge.value, '$.result'), 1) AS result,
    coalesce(json_extract(edge.value, '$.reason'), '') AS reason,
    coalesce(json_extract(edge.value, '$.count'), 1) AS count,
    facts.at AS at
FROM facts, json_each(facts.body, '$.edges') AS edge
WHERE facts.fact = 'DecisionMade';

-- What happened to steps of any kind; a resume happens to each step that it reopens.
CREATE VIEW step_history AS
SELECT
    run, json_extract(body, '$.step') AS step, position, fact, at_us, worker, body,
    coalesce(json_extract(body, '$.attempt'), 1) AS attempt,
    CASE WHEN fact IN ('StepScheduled', 'StepRetried') THEN coalesce(json_extract(body, '$.due'), at_us) END AS due_us
FROM facts
WHERE fact IN ('StepScheduled', 'StepRetried', 'StepSuspended', 'StepCompleted', 'StepFailed', 'StepCancelled')
UNION ALL
SELECT
    facts.run, json_extract(reopened.value, '$[0]'), facts.position, 'StepReopened', facts.at_us, facts.worker, '{}',
    json_extract(reopened.value, '$[1]'), facts.at_us
FROM facts, json_each(facts.body, '$.reopened') AS reopened
WHERE facts.fact = 'RunResumed';

-- One row per step of user code, with its last attempt. START makes the first state and calls inside a node belong
-- to their node, so neither is a stage.
CREATE VIEW stages AS
SELECT
    last.run AS run,
    last.step AS step,
    json_extract(last.scheduled, '$.name') AS name,
    coalesce(json_extract(last.scheduled, '$.iteration'), 1) AS iteration,
    last.attempt AS attempt,
    CASE last.fact
        WHEN 'StepCompleted' THEN 'completed'
        WHEN 'StepFailed' THEN 'failed'
        WHEN 'StepCancelled' THEN 'cancelled'
        WHEN 'StepSuspended' THEN 'suspended'
        ELSE CASE
            WHEN last.due_us <= (julianday('now') - 2440587.5) * 86400000000.0 + 1000 AND jobs.worker <> '' THEN 'running'
            WHEN last.fact = 'StepRetried' THEN 'retrying'
            ELSE 'scheduled'
        END
    END AS status,
    CASE WHEN last.fact = 'StepCompleted' THEN json_quote(json_extract(last.body, '$.data')) END AS output,
    json_extract(last.body, '$.error') AS error,
    strftime('%Y-%m-%dT%H:%M:%S', last.started_us / 1000000, 'unixepoch')
        || printf('.%06dZ', last.started_us % 1000000) AS started_at,
    strftime('%Y-%m-%dT%H:%M:%S', last.completed_us / 1000000, 'unixepoch')
        || printf('.%06dZ', last.completed_us % 1000000) AS completed_at,
    (last.completed_us - last.started_us) / 1000000.0 AS duration,
    CASE WHEN last.completed_us IS NULL THEN coalesce(jobs.worker, '') ELSE last.worker END AS worker
FROM (
    SELECT
        run, step, position, fact, worker, body, attempt, due_us,
        coalesce(json_extract(body, '$.started'), max(due_us) OVER (PARTITION BY run, step)) AS started_us,
        CASE WHEN fact IN ('StepCompleted', 'StepFailed', 'StepCancelled') THEN at_us END AS completed_us,
        max(CASE WHEN fact = 'StepScheduled' THEN body END) OVER (PARTITION BY run, step) AS scheduled,
        row_number() OVER (PARTITION BY run, step ORDER BY position DESC) AS age
    FROM step_history
) AS last
LEFT JOIN jobs ON jobs.run = last.run
WHERE last.age = 1
    AND coalesce(json_extract(last.scheduled, '$.kind'), 'call') = 'call'
    AND json_extract(last.scheduled, '$.parent') IS NULL
    AND json_extract(last.scheduled, '$.name') <> 'START';
