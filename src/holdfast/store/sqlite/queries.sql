-- Every statement of the SQLite store, by name. Parameters stand in the order of the calls in writer.py and reader.py.
-- :now and the like are not used: positional parameters bind faster, and the first ones are on the hottest path.

-- run_advance: a commit that leaves the status as it was; the only UPDATE of most commits, so no indexed column is set
UPDATE workflow_runs
SET position = ?, last_commit = ?, waiting_on = ?, progress = coalesce(?, progress), format = max(format, ?),
    updated_at = ?
WHERE id = ? AND position = ? AND epoch = ?

-- run_change: a commit that changes the status
UPDATE workflow_runs
SET position = ?, last_commit = ?, waiting_on = ?, progress = coalesce(?, progress), format = max(format, ?),
    updated_at = ?, status = ?, error = ?, completed_at = ?,
    started_at = CASE WHEN started_at = 0 THEN ? ELSE started_at END
WHERE id = ? AND position = ? AND epoch = ?

-- run_insert: a run begins, unless its id is taken or was
INSERT INTO workflow_runs (
    id, workflow, version, hash, status, queue, priority, tags, params, secrets, parent, position, epoch, last_commit,
    waiting_on, error, progress, format, created_at, started_at, completed_at, updated_at
)
SELECT ?, ?, ?, ?, ?, ?, ?, ?, CAST(? AS TEXT), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
WHERE NOT EXISTS (SELECT 1 FROM tombstones WHERE run = ?)
ON CONFLICT (id) DO NOTHING

-- run_reopen: a delivery takes an ended or paused run up again, for whoever claims it
UPDATE workflow_runs
SET status = 'pending', waiting_on = '[]', error = NULL, completed_at = 0, updated_at = ?
WHERE id = ?

-- run_reopen_unheld: as run_reopen, for a child that its parent takes up again
UPDATE workflow_runs
SET status = 'pending', waiting_on = '[]', error = NULL, completed_at = 0, updated_at = ?
WHERE id = ? AND status IN ('paused', 'failed', 'cancelled')
    AND NOT EXISTS (SELECT 1 FROM jobs WHERE run = workflow_runs.id AND worker <> '')

-- run_tag_insert: one tag of a new run
INSERT OR IGNORE INTO run_tags (tag, created_at, run) VALUES (?, ?, ?)

-- journal_insert: the facts of one commit
INSERT INTO journal (run, position, count, at, commit_id, epoch, worker, facts)
VALUES (?, ?, ?, ?, ?, ?, ?, CAST(? AS TEXT))

-- fold_insert: a stored fold
INSERT OR REPLACE INTO checkpoints (run, position, hash, at, data) VALUES (?, ?, ?, ?, ?)

-- blob_insert: a large value
INSERT OR IGNORE INTO payloads (run, hash, data) VALUES (?, ?, ?)

-- inbox_insert: an arrival; a second one with the same key is ignored
INSERT INTO inbox (run, key, due, at, fact) VALUES (?, ?, ?, ?, CAST(? AS TEXT)) ON CONFLICT (run, key) DO NOTHING

-- inbox_insert_other: an arrival that a run's commit sends to another run, if that can still take it
INSERT INTO inbox (run, key, due, at, fact)
SELECT id, ?, ?, ?, CAST(? AS TEXT) FROM workflow_runs WHERE id = ? AND status <> 'completed'
ON CONFLICT (run, key) DO NOTHING

-- inbox_consume: an arrival was taken
DELETE FROM inbox WHERE id = ? AND run = ?

-- inbox_withdraw: the arrival with this key goes
DELETE FROM inbox WHERE run = ? AND key = ?

-- inbox_withdraw_prefix: all arrivals go whose key begins so
DELETE FROM inbox WHERE run = ? AND substr(coalesce(key, ''), 1, ?) = ?

-- inbox_due_next: the earliest instant that an arrival waits for
SELECT min(due) FROM inbox WHERE due > 0

-- inbox_due: arrivals whose instant has come
SELECT id, run FROM inbox WHERE due > 0 AND due <= ? ORDER BY due, id LIMIT ?

-- inbox_move: the arrival may be taken now
UPDATE inbox SET due = 0 WHERE id = ?

-- inbox_select: the arrivals of a run that may be taken
SELECT id, run, coalesce(key, ''), CAST(fact AS BLOB) FROM inbox WHERE run = ? AND due <= ? ORDER BY at, id

-- job_upsert: a run's job, ready or held; a worker that was reclaimed and does not know yet can hold none
INSERT INTO jobs (run, queue, workflow, priority, worker)
VALUES (?, ?, ?, ?, CASE WHEN EXISTS (SELECT 1 FROM workers WHERE id = ? AND stopped_at > 0) THEN '' ELSE ? END)
ON CONFLICT (run) DO UPDATE SET
    queue = excluded.queue, workflow = excluded.workflow, priority = excluded.priority, worker = excluded.worker, deaths = 0

-- job_wake: somebody must look at the run; none for an ended one
INSERT INTO jobs (run, queue, workflow, priority, wakes)
SELECT id, queue, workflow, priority, 1 FROM workflow_runs
WHERE id = ? AND status NOT IN ('completed', 'failed', 'cancelled')
ON CONFLICT (run) DO UPDATE SET wakes = wakes + 1

-- job_delete: nobody needs to look at the run, if the commit will not lose its conflict
DELETE FROM jobs
WHERE run = ? AND EXISTS (SELECT 1 FROM workflow_runs WHERE id = ? AND position = ? AND epoch = ?)

-- job_delete_unwoken: as job_delete, if the job is still the worker's and was not woken since
DELETE FROM jobs
WHERE run = ? AND worker = ? AND wakes = ? AND EXISTS (SELECT 1 FROM workflow_runs WHERE id = ? AND position = ? AND epoch = ?)

-- job_ready: the first ready jobs of one lane that are under no suspicion
SELECT jobs.id, jobs.priority, jobs.run FROM jobs JOIN workflow_runs AS r ON r.id = jobs.run
WHERE jobs.worker = '' AND jobs.queue = ? AND jobs.workflow = ? AND jobs.deaths < ? AND r.format <= ?
ORDER BY jobs.priority DESC, jobs.id LIMIT ?

-- job_suspect: the first ready jobs of one lane whose holders died
SELECT jobs.id, jobs.priority, jobs.run FROM jobs JOIN workflow_runs AS r ON r.id = jobs.run
WHERE jobs.worker = '' AND jobs.queue = ? AND jobs.workflow = ? AND jobs.deaths >= ? AND r.format <= ?
ORDER BY jobs.priority DESC, jobs.id LIMIT ?

-- job_hold: a worker takes a job
UPDATE jobs SET worker = ? WHERE id = ? RETURNING deaths, wakes

-- job_hold_run: a worker takes the job of one run, which is made when there is none
INSERT INTO jobs (run, queue, workflow, priority, worker)
SELECT id, queue, workflow, priority, ? FROM workflow_runs
WHERE id = ? AND status NOT IN ('completed', 'failed', 'cancelled') AND format <= ?
ON CONFLICT (run) DO UPDATE SET worker = excluded.worker WHERE worker = ''
RETURNING deaths, wakes

-- journal_began: the facts of a run that only began, unless something came for it since
SELECT CAST(facts AS BLOB) FROM journal
WHERE run = ? AND position = 1 AND NOT EXISTS (SELECT 1 FROM inbox WHERE inbox.run = journal.run AND inbox.due <= ?)

-- job_wakes: how often the worker's job was woken
SELECT wakes FROM jobs WHERE run = ? AND worker = ?

-- job_held: the runs that a worker holds
SELECT run FROM jobs WHERE worker = ? AND worker <> ''

-- job_release: a worker gives a job back
UPDATE jobs SET worker = '' WHERE run = ? AND worker = ?

-- job_reclaim: the jobs of a dead worker
UPDATE jobs SET worker = '', deaths = deaths + 1 WHERE worker = ? AND worker <> '' RETURNING run

-- job_woken: runs held by a worker that have arrivals
SELECT run, wakes FROM jobs
WHERE worker = ? AND worker <> '' AND EXISTS (SELECT 1 FROM inbox WHERE inbox.run = jobs.run AND inbox.due <= ?)

-- run_fence: the run's next holder, or nobody, may commit; the last one may not
UPDATE workflow_runs SET epoch = epoch + 1 WHERE id = ?

-- run_target: what a delivery must know of its run
SELECT r.status, coalesce(jobs.worker, '') FROM workflow_runs AS r LEFT JOIN jobs ON jobs.run = r.id WHERE r.id = ?

-- run_select: a run's row, in the order of RunRow's fields
SELECT r.id, r.workflow, r.version, r.hash, r.status, r.queue, r.priority, r.tags,
    CAST(coalesce(r.params, (SELECT data FROM payloads WHERE run = r.id AND hash = 'params')) AS BLOB),
    r.secrets, r.parent, r.position, r.epoch, r.last_commit, r.waiting_on, r.error, r.progress, r.format,
    r.created_at, r.started_at, r.completed_at, r.updated_at
FROM workflow_runs AS r WHERE r.id = ?

-- run_list: as run_select, for a filter that reader.py appends
SELECT r.id, r.workflow, r.version, r.hash, r.status, r.queue, r.priority, r.tags,
    CAST(coalesce(r.params, (SELECT data FROM payloads WHERE run = r.id AND hash = 'params')) AS BLOB),
    r.secrets, r.parent, r.position, r.epoch, r.last_commit, r.waiting_on, r.error, r.progress, r.format,
    r.created_at, r.started_at, r.completed_at, r.updated_at
FROM workflow_runs AS r

-- run_count: how many, for a filter that reader.py appends
SELECT count(*) FROM workflow_runs AS r

-- run_family: a run and all its descendants, children after their parents
WITH RECURSIVE family (id, depth) AS (
    VALUES (?, 0)
    UNION
    SELECT child.id, family.depth + 1 FROM workflow_runs AS child JOIN family ON child.parent = family.id
    WHERE child.parent <> ''
)
SELECT family.id, r.status, coalesce(jobs.worker, '') FROM family
JOIN workflow_runs AS r ON r.id = family.id LEFT JOIN jobs ON jobs.run = r.id
ORDER BY family.depth

-- family_size: how many facts a run and its descendants have
WITH RECURSIVE family (id) AS (
    VALUES (?)
    UNION
    SELECT child.id FROM workflow_runs AS child JOIN family ON child.parent = family.id WHERE child.parent <> ''
)
SELECT coalesce(sum(r.position), 0) FROM family JOIN workflow_runs AS r ON r.id = family.id

-- leaving_insert: a run of which rows are left
INSERT OR IGNORE INTO leaving (run) VALUES (?)

-- leaving_next: such a run
SELECT run FROM leaving ORDER BY run LIMIT 1

-- leaving_delete: nothing of it is left
DELETE FROM leaving WHERE run = ?

-- job_drop: a run's job, if there is one
DELETE FROM jobs WHERE run = ?

-- tags_drop: a run's tags
DELETE FROM run_tags WHERE run = ?

-- cache_drop: the results that go with their run
DELETE FROM cache WHERE owner = ?

-- letter_drop: that a run's dead letter was put away
DELETE FROM dead_letters WHERE run = ?

-- journal_sweep: some rows of a run
DELETE FROM journal WHERE seq IN (SELECT seq FROM journal WHERE run = ? LIMIT ?)

-- payload_sweep: some rows of a run
DELETE FROM payloads WHERE rowid IN (SELECT rowid FROM payloads WHERE run = ? LIMIT ?)

-- checkpoint_sweep: some rows of a run
DELETE FROM checkpoints WHERE rowid IN (SELECT rowid FROM checkpoints WHERE run = ? LIMIT ?)

-- chunk_sweep: some rows of a run
DELETE FROM chunks WHERE number IN (SELECT number FROM chunks WHERE run = ? LIMIT ?)

-- inbox_sweep: some rows of a run
DELETE FROM inbox WHERE id IN (SELECT id FROM inbox WHERE run = ? LIMIT ?)

-- run_delete: a run with all that is its own
DELETE FROM workflow_runs WHERE id = ?

-- tombstone_insert: the id was used
INSERT OR REPLACE INTO tombstones (run, at) VALUES (?, ?)

-- fold_select: the newest fold of a program
SELECT position, hash, data FROM checkpoints WHERE run = ? AND hash = ? ORDER BY position DESC LIMIT 1

-- fold_until: the newest fold of a program up to a position
SELECT position, hash, data FROM checkpoints WHERE run = ? AND hash = ? AND position <= ?
ORDER BY position DESC LIMIT 1

-- run_position: how many facts a run has
SELECT position FROM workflow_runs WHERE id = ?

-- chunk_insert: a chunk of a run that is there
INSERT INTO chunks (run, position, step, attempt, at, data) VALUES (?, ?, ?, ?, ?, CAST(? AS TEXT))

-- chunk_select: the chunks of a run after one
SELECT number, run, position, step, attempt, at, CAST(coalesce(data, '') AS BLOB) FROM chunks
WHERE run = ? AND number > ? ORDER BY number LIMIT ?

-- journal_select: the commits of a run that hold facts after a position
SELECT CAST(seq AS TEXT), run, position, count, at, commit_id, worker, CAST(facts AS BLOB) FROM journal
WHERE run = ?
    AND position >= coalesce((SELECT max(position) FROM journal WHERE run = ? AND position <= ? + 1), 0)
    AND position + count > ? + 1
ORDER BY position LIMIT ?

-- journal_tail: the commits of a worker
SELECT CAST(seq AS TEXT), run, position, count, at, commit_id, worker, CAST(facts AS BLOB) FROM journal
WHERE worker = ? AND seq > ? ORDER BY seq LIMIT ?

-- journal_after: the commits of all runs; one writes at a time, so `seq` rises as they become visible
SELECT CAST(seq AS TEXT), run, position, count, at, commit_id, worker, CAST(facts AS BLOB) FROM journal
WHERE seq > ? ORDER BY seq LIMIT ?

-- journal_last: the newest commit of all runs
SELECT coalesce(max(seq), 0) FROM journal

-- journal_broken: runs whose journal has a gap, or another length than the row says
SELECT r.id FROM workflow_runs AS r
WHERE r.position <> (SELECT coalesce(sum(count), 0) FROM journal WHERE run = r.id)
    OR EXISTS (
        SELECT 1 FROM (SELECT position, lag(position + count, 1, 1) OVER (ORDER BY position) AS expected
                       FROM journal WHERE run = r.id)
        WHERE position <> expected
    )

-- blob_size: how large the large values of a run are together
SELECT coalesce(sum(length(data)), 0) FROM payloads WHERE run = ? AND hash <> 'params'

-- blob_select: the large values of a run
SELECT hash, data FROM payloads WHERE run = ? AND hash <> 'params'

-- worker_upsert: a worker enlists
INSERT OR REPLACE INTO workers (
    id, host, boot, namespace, pid, lock, queues, workflows, version, started_at, leased_until, stopped_at
)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- profile_upsert: a profile takes the place of the one before
INSERT INTO profiles (workflow, name, body) VALUES (?, ?, ?)
ON CONFLICT (workflow, name) DO UPDATE SET body = excluded.body

-- profile_delete: a profile is forgotten
DELETE FROM profiles WHERE workflow = ? AND name = ?

-- profile_select: a workflow's profiles
SELECT name, body FROM profiles WHERE workflow = ? ORDER BY name

-- limit_select: a row that processes change together
SELECT version, CAST(body AS BLOB) FROM limits WHERE name = ?

-- limits_select: such rows by the beginning of their names
SELECT name, version, CAST(body AS BLOB) FROM limits WHERE substr(name, 1, length(?1)) = ?1

-- limit_insert: such a row, when there is none
INSERT INTO limits (name, version, body) VALUES (?, 1, CAST(? AS TEXT)) ON CONFLICT (name) DO NOTHING

-- limit_update: such a row, when nobody wrote it since
UPDATE limits SET version = version + 1, body = CAST(? AS TEXT) WHERE name = ? AND version = ?

-- cache_keep: a result takes the place of one with its key
INSERT INTO cache (key, family, scope, workflow, step, run, at, owner, expires, parts, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, CAST(? AS TEXT), CAST(? AS TEXT))
ON CONFLICT (key) DO UPDATE SET
    family = excluded.family, scope = excluded.scope, workflow = excluded.workflow, step = excluded.step,
    run = excluded.run, at = excluded.at, owner = excluded.owner, expires = excluded.expires,
    parts = excluded.parts, body = excluded.body

-- cache_select: results by their keys
SELECT key, family, scope, workflow, step, run, at, coalesce(owner, ''), expires, CAST(parts AS BLOB), CAST(body AS BLOB)
FROM cache WHERE key IN (SELECT value FROM json_each(?))

-- cache_last: the entry that a family got last
SELECT key, family, scope, workflow, step, run, at, coalesce(owner, ''), expires, CAST(parts AS BLOB), x''
FROM cache WHERE family = ? ORDER BY at DESC, key DESC LIMIT 1

-- cache_list: results from after one, the newest first
SELECT key, scope, workflow, step, run, at, expires, length(CAST(body AS BLOB)) FROM cache
WHERE (?1 IS NULL OR workflow = ?1) AND (?2 IS NULL OR step = ?2) AND (?3 IS NULL OR scope = ?3)
    AND (?4 IS NULL OR (at, key) < (?4, ?5))
ORDER BY at DESC, key DESC LIMIT ?6

-- cache_clear: results are forgotten
DELETE FROM cache WHERE key IN (
    SELECT key FROM cache
    WHERE (?1 IS NULL OR workflow = ?1) AND (?2 IS NULL OR step = ?2) AND (?3 IS NULL OR scope = ?3) LIMIT ?4
)

-- cache_forget: results that expired are forgotten
DELETE FROM cache WHERE key IN (SELECT key FROM cache WHERE expires > 0 AND expires < ? LIMIT ?)

-- letter_discard: a failed run is put away
INSERT INTO dead_letters (run, position, discarded_at)
SELECT id, position, ? FROM workflow_runs WHERE id = ? AND position = ? AND status = 'failed'
ON CONFLICT (run) DO UPDATE SET position = excluded.position, discarded_at = excluded.discarded_at

-- tombstone_delete: ids of runs that were deleted long ago are free again
DELETE FROM tombstones WHERE run IN (
    SELECT t.run FROM tombstones AS t
    WHERE t.at < ? AND NOT EXISTS (SELECT 1 FROM leaving AS l WHERE l.run = t.run) LIMIT ?
)

-- worker_select: all workers
SELECT id, host, boot, namespace, pid, lock, queues, workflows, version, started_at, leased_until, stopped_at
FROM workers ORDER BY started_at, id

-- worker_renew: the lease goes on, unless it was taken
UPDATE workers SET leased_until = ? WHERE id = ? AND stopped_at = 0

-- worker_stop: a worker is gone, or its lease was taken
UPDATE workers SET stopped_at = ? WHERE id = ? AND stopped_at = 0

-- worker_delete: a worker that has stopped is forgotten
DELETE FROM workers WHERE id = ? AND stopped_at > 0

-- worker_stopped: was this worker reclaimed
SELECT 1 FROM workers WHERE id = ? AND stopped_at > 0

-- worker_expired: is this worker's lease over
SELECT 1 FROM workers WHERE id = ? AND leased_until < ?
