-- Every statement of the PostgreSQL store, by name. What writes is a function of the migrations.

-- advance: runs go on; which were accepted and the transaction, as one record: a function in FROM takes longer to plan
SELECT holdfast.advance($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)

-- open: runs begin; as advance
SELECT holdfast.open(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25
)

-- open_children: child runs begin, where their parents' commits were accepted
SELECT holdfast.open_children(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25,
    $26, $27
)

-- go_on: child runs are taken up again
SELECT holdfast.go_on($1, $2, $3, $4)

-- turn: before lock_runs, as advance and open do by themselves
SELECT pg_advisory_xact_lock(1215261796, $1::int)

-- lock_runs: before a group that writes to more runs than it moves on
SELECT holdfast.lock_runs($1)

-- consume: arrivals were taken
SELECT holdfast.consume($1, $2, $3)

-- withdraw: arrivals go
SELECT holdfast.withdraw($1, $2, $3, $4)

-- send: arrivals come from commits
SELECT holdfast.send($1, $2, $3, $4, $5, $6, $7)

-- dequeue: jobs go, and which stay
SELECT n, wakes FROM holdfast.dequeue($1, $2, $3, $4)

-- enqueue: jobs come
SELECT holdfast.enqueue($1, $2, $3, $4, $5, $6)

-- keep: large values
SELECT holdfast.keep($1, $2, $3, $4)

-- fold: stored folds
SELECT holdfast.fold($1, $2, $3, $4)

-- deliver: arrivals come from others
SELECT outcome, status, worker FROM holdfast.deliver($1, $2, $3, $4, $5, $6, holdfast.instant($7))

-- take_up: ready jobs are taken; what the jobs know, the facts of runs that only began, the runs in the order of RunRow
SELECT c.deaths, c.wakes, c.began,
    r.id, r.workflow, r.version, r.hash, r.status, r.queue, r.priority, r.tags,
    coalesce(r.params, (SELECT convert_from(data, 'UTF8')::json FROM holdfast.payloads WHERE run = r.id AND hash = 'params')),
    r.secrets, r.parent, r.position, r.epoch, r.last_commit, r.waiting_on, r.error, r.progress, r.format,
    r.created_at, r.started_at, r.completed_at, r.updated_at
FROM holdfast.take_up($1, $2, $3, $4, $5, $6, $7, $8) AS c, LATERAL (SELECT (c.run).*) AS r

-- ready: runs that could be claimed, in the order of claims
SELECT run FROM holdfast.ready($1, $2, $3, $4, $5, $6) ORDER BY priority DESC, id

-- claim_run: the job of one run is taken; as take_up
SELECT c.deaths, c.wakes, NULL::json,
    r.id, r.workflow, r.version, r.hash, r.status, r.queue, r.priority, r.tags,
    coalesce(r.params, (SELECT convert_from(data, 'UTF8')::json FROM holdfast.payloads WHERE run = r.id AND hash = 'params')),
    r.secrets, r.parent, r.position, r.epoch, r.last_commit, r.waiting_on, r.error, r.progress, r.format,
    r.created_at, r.started_at, r.completed_at, r.updated_at
FROM holdfast.claim_run($1, $2, $3) AS c, LATERAL (SELECT (c.run).*) AS r

-- release: jobs are ready again
SELECT holdfast.release($1, $2)

-- reclaim: a dead worker's jobs are freed
SELECT run FROM holdfast.reclaim($1, $2, holdfast.instant($3))

-- move_due: due arrivals may be taken
SELECT holdfast.move_due(holdfast.instant($1), $2)

-- delete_run: a run goes with its descendants
SELECT outcome, status, worker FROM holdfast.delete_run($1, $2, holdfast.instant($3))

-- transaction: its number, if it wrote anything
SELECT pg_current_xact_id_if_assigned()

-- worker_upsert: a worker enlists
INSERT INTO holdfast.workers (
    id, host, boot, namespace, pid, lock, queues, workflows, version, started_at, leased_until, stopped_at
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (id) DO UPDATE SET
    host = excluded.host, boot = excluded.boot, namespace = excluded.namespace, pid = excluded.pid,
    lock = excluded.lock, queues = excluded.queues, workflows = excluded.workflows, version = excluded.version,
    started_at = excluded.started_at, leased_until = excluded.leased_until, stopped_at = excluded.stopped_at

-- worker_delete: workers that have stopped are forgotten
DELETE FROM holdfast.workers WHERE id = ANY ($1) AND stopped_at > 0

-- worker_renew: the lease goes on, unless it was taken
UPDATE holdfast.workers SET leased_until = %s WHERE id = %s AND stopped_at = 0

-- profile_upsert: a profile takes the place of the one before
INSERT INTO holdfast.profiles (workflow, name, body) VALUES ($1, $2, $3)
ON CONFLICT (workflow, name) DO UPDATE SET body = excluded.body

-- profile_delete: a profile is forgotten
DELETE FROM holdfast.profiles WHERE workflow = $1 AND name = $2

-- profile_select: a workflow's profiles
SELECT name, body FROM holdfast.profiles WHERE workflow = $1 ORDER BY name

-- limit_select: a row that processes change together
SELECT version, convert_to(body::text, 'UTF8') FROM holdfast.limits WHERE name = $1

-- limits_select: such rows by the beginning of their names
SELECT name, version, convert_to(body::text, 'UTF8') FROM holdfast.limits WHERE starts_with(name, $1)

-- limit_insert: such a row, when there is none
INSERT INTO holdfast.limits (name, version, body) VALUES ($1, 1, $2::text::json)
ON CONFLICT (name) DO NOTHING RETURNING version

-- limit_update: such a row, when nobody wrote it since
UPDATE holdfast.limits SET version = version + 1, body = $2::text::json WHERE name = $1 AND version = $3
RETURNING version

-- keep_results: results take the places of those with their keys
SELECT holdfast.keep_results($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)

-- cache_select: results by their keys
SELECT key, family, scope, workflow, step, run, at, coalesce(owner, ''), expires, parts, body
FROM holdfast.cache WHERE key = ANY ($1)

-- cache_last: the entry that each family got last
SELECT c.key, c.family, c.scope, c.workflow, c.step, c.run, c.at, coalesce(c.owner, ''), c.expires, c.parts, NULL::json
FROM unnest($1) AS f (family), LATERAL (
    SELECT * FROM holdfast.cache WHERE family = f.family ORDER BY at DESC, key DESC LIMIT 1
) AS c

-- cache_list: results from after one, the newest first
SELECT key, scope, workflow, step, run, at, expires, octet_length(body::text)::bigint FROM holdfast.cache
WHERE ($1 IS NULL OR workflow = $1) AND ($2 IS NULL OR step = $2) AND ($3 IS NULL OR scope = $3)
    AND ($4 IS NULL OR (at, key) < ($4, $5 COLLATE "C"))
ORDER BY at DESC, key DESC LIMIT $6

-- cache_clear: results are forgotten, but for those that somebody writes just now
DELETE FROM holdfast.cache WHERE key IN (
    SELECT key FROM holdfast.cache
    WHERE ($1 IS NULL OR workflow = $1) AND ($2 IS NULL OR step = $2) AND ($3 IS NULL OR scope = $3)
    LIMIT $4 FOR UPDATE SKIP LOCKED
) RETURNING key

-- cache_forget: results that expired are forgotten, but for those that somebody writes just now
DELETE FROM holdfast.cache WHERE key IN (
    SELECT key FROM holdfast.cache WHERE expires > 0 AND expires < $1 LIMIT $2 FOR UPDATE SKIP LOCKED
) RETURNING key

-- letter_discard: a failed run is put away
INSERT INTO holdfast.dead_letters AS d (run, position, discarded_at)
SELECT id, position, $1 FROM holdfast.workflow_runs WHERE id = $2 AND position = $3 AND status = 'failed' FOR KEY SHARE
ON CONFLICT (run) DO UPDATE SET position = excluded.position, discarded_at = excluded.discarded_at
RETURNING d.run

-- tombstone_delete: ids of runs that were deleted long ago are free again
DELETE FROM holdfast.tombstones WHERE run IN (SELECT run FROM holdfast.tombstones WHERE at < $1 LIMIT $2) RETURNING run

-- worker_select: all workers
SELECT id, host, boot, namespace, pid, lock, queues, workflows, version, started_at, leased_until, stopped_at
FROM holdfast.workers ORDER BY started_at, id

-- run_select: runs by their ids, in the order of RunRow's fields
SELECT r.id, r.workflow, r.version, r.hash, r.status, r.queue, r.priority, r.tags,
    coalesce(r.params, (SELECT convert_from(data, 'UTF8')::json FROM holdfast.payloads WHERE run = r.id AND hash = 'params')),
    r.secrets, r.parent, r.position, r.epoch, r.last_commit, r.waiting_on, r.error, r.progress, r.format,
    r.created_at, r.started_at, r.completed_at, r.updated_at
FROM holdfast.workflow_runs AS r WHERE r.id = ANY ($1)

-- run_list: as run_select, for a filter that reader.py appends
SELECT r.id, r.workflow, r.version, r.hash, r.status, r.queue, r.priority, r.tags,
    coalesce(r.params, (SELECT convert_from(data, 'UTF8')::json FROM holdfast.payloads WHERE run = r.id AND hash = 'params')),
    r.secrets, r.parent, r.position, r.epoch, r.last_commit, r.waiting_on, r.error, r.progress, r.format,
    r.created_at, r.started_at, r.completed_at, r.updated_at
FROM holdfast.workflow_runs AS r

-- run_count: how many, for a filter that reader.py appends
SELECT count(*) AS count FROM holdfast.workflow_runs AS r

-- fold_select: the newest fold of a program, for each of some runs
SELECT wanted.run, newest.position, newest.hash, newest.data
FROM unnest($1::text[], $2::text[]) AS wanted (run, hash), LATERAL (
    SELECT position, hash, data FROM holdfast.checkpoints AS c
    WHERE c.run = wanted.run AND c.hash = wanted.hash ORDER BY c.position DESC LIMIT 1
) AS newest

-- fold_until: the newest fold of a program up to a position
SELECT position, hash, data FROM holdfast.checkpoints WHERE run = $1 AND hash = $2 AND position <= $3
ORDER BY position DESC LIMIT 1

-- chunks_insert: chunks of runs, and the positions of these
WITH kept AS MATERIALIZED (SELECT holdfast.keep_chunks($1, $2, $3, $4, $5))
SELECT r.id, r.position FROM kept, holdfast.workflow_runs AS r WHERE r.id = ANY ($1)

-- chunk_select: the chunks of a run after one
SELECT number, run, position, step, attempt, at, coalesce(convert_to(data::text, 'UTF8'), '') FROM holdfast.chunks
WHERE run = $1 AND number > $2 ORDER BY number LIMIT $3

-- journal_select: the commits of a run that hold facts after a position
SELECT era, tx, seq, run, position, count, at, commit_id, worker, facts FROM holdfast.journal
WHERE run = $1
    AND position >= coalesce(
        (SELECT max(position) FROM holdfast.journal WHERE run = $1 AND position <= $2 + 1), 0
    )
    AND position + count > $2 + 1
ORDER BY position LIMIT $3

-- journal_rest: the commits after the newest fold of a program, for each of some runs
SELECT wanted.hash, rest.era, rest.tx, rest.seq, rest.run, rest.position, rest.count, rest.at, rest.commit_id, rest.worker,
    rest.facts
FROM unnest($1::text[], $2::text[]) AS wanted (run, hash), LATERAL (
    SELECT * FROM holdfast.journal AS j
    WHERE j.run = wanted.run AND j.position > coalesce(
        (SELECT max(c.position) FROM holdfast.checkpoints AS c WHERE c.run = wanted.run AND c.hash = wanted.hash), 0
    )
    ORDER BY j.position OFFSET 0
) AS rest

-- journal_tail: the commits of a worker, whose transactions take turns
SELECT era, tx, seq, run, position, count, at, commit_id, worker, facts FROM holdfast.journal
WHERE worker = $1 AND (era, tx, seq) > ($2, $3::text::xid8, $4) ORDER BY era, tx, seq LIMIT $5

-- journal_after: the commits of all runs whose transactions, and all before these, are over
SELECT era, tx, seq, run, position, count, at, commit_id, worker, facts FROM holdfast.journal
WHERE (era, tx, seq) > ($1, $2::text::xid8, $3)
    AND (era < $4 OR tx < pg_snapshot_xmin(pg_current_snapshot()))
ORDER BY era, tx, seq LIMIT $5

-- blob_select: the large values of runs
SELECT run, hash, data FROM holdfast.payloads WHERE run = ANY ($1) AND hash <> 'params'

-- inbox_select: the arrivals of some runs that may be taken, with each run's number
SELECT wanted.n, i.id, i.run, coalesce(i.key, ''), i.fact
FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS wanted (run, at, n), LATERAL (
    SELECT * FROM holdfast.inbox AS i
    WHERE i.run = wanted.run AND i.due <= holdfast.instant(wanted.at) ORDER BY i.at, i.id OFFSET 0
) AS i

-- inbox_due_next: the earliest instant that an arrival waits for
SELECT min(due) FROM holdfast.inbox WHERE due > 0

-- job_held: the runs that a worker holds
SELECT run FROM holdfast.jobs WHERE worker = $1 AND worker <> ''

-- job_woken: runs held by a worker that have arrivals; OFFSET has them looked up one by one, whatever waits elsewhere
SELECT run, wakes FROM holdfast.jobs AS j
WHERE worker = $1 AND worker <> '' AND EXISTS (
    SELECT 1 FROM holdfast.inbox AS i WHERE i.run = j.run AND i.due <= holdfast.instant($2) OFFSET 0
)

-- journal_broken: runs whose journal has a gap, or another length than the row says
SELECT r.id FROM holdfast.workflow_runs AS r
WHERE r.position <> (SELECT coalesce(sum(count), 0) FROM holdfast.journal WHERE run = r.id)
    OR EXISTS (
        SELECT 1 FROM (SELECT position, lag(position + count, 1, 1::bigint) OVER (ORDER BY position) AS expected
                       FROM holdfast.journal WHERE run = r.id) AS row
        WHERE position <> expected
    )

-- orphans: rows that belong to no run
SELECT 'journal' AS "table", run FROM holdfast.journal WHERE run NOT IN (SELECT id FROM holdfast.workflow_runs)
UNION SELECT 'checkpoints', run FROM holdfast.checkpoints WHERE run NOT IN (SELECT id FROM holdfast.workflow_runs)
UNION SELECT 'payloads', run FROM holdfast.payloads WHERE run NOT IN (SELECT id FROM holdfast.workflow_runs)
UNION SELECT 'inbox', run FROM holdfast.inbox WHERE run NOT IN (SELECT id FROM holdfast.workflow_runs)
UNION SELECT 'jobs', run FROM holdfast.jobs WHERE run NOT IN (SELECT id FROM holdfast.workflow_runs)
UNION SELECT 'run_tags', run FROM holdfast.run_tags WHERE run NOT IN (SELECT id FROM holdfast.workflow_runs)
ORDER BY 1, 2

-- listen: to hints of other processes
LISTEN holdfast

-- notify: a hint to other processes
SELECT pg_notify('holdfast', $1)

-- pulse: where the order of transactions stands, the server's clock, and which have written since a snapshot
SELECT now.snapshot::text, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, ARRAY(
    SELECT tx::text::bigint FROM (
        SELECT tx FROM holdfast.journal WHERE era = $3 AND tx >= pg_snapshot_xmax(since.snapshot)
        UNION ALL
        SELECT tx FROM holdfast.journal WHERE era = $3 AND tx = ANY (ARRAY(SELECT pg_snapshot_xip(since.snapshot)))
        UNION ALL
        SELECT tx FROM holdfast.hints WHERE tx >= pg_snapshot_xmax(since.snapshot)
        UNION ALL
        SELECT tx FROM holdfast.hints WHERE tx = ANY (ARRAY(SELECT pg_snapshot_xip(since.snapshot)))
    ) AS written LIMIT $2
)
FROM pg_current_snapshot() AS now (snapshot), coalesce($1::text::pg_snapshot, pg_current_snapshot()) AS since (snapshot)
