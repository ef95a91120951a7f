-- min_code: 1
--
-- What a commit writes, one function per kind of row, each for a whole group of commits given as arrays of one length.
-- They run in one transaction and one round trip. PL/pgSQL keeps their plans for as long as the server's process
-- lives, also behind a pooler. The settings make each plan one that looks rows up by an index, whatever the statistics
-- say while the tables are young, and end a wait for a lock before anybody takes the database for dead.
--
-- `advance` and `open` decide which commits are accepted. The others write only for runs whose row says that this very
-- transaction wrote this very commit (`last_commit` and `xmin`), so a commit that lost its conflict leaves nothing.

-- Locks runs in the order of their ids, for a group that writes to more runs than it moves on.
CREATE FUNCTION holdfast.lock_runs(runs text[]) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off SET lock_timeout = '20s' AS $$
BEGIN
    PERFORM 1 FROM holdfast.workflow_runs AS r WHERE r.id = ANY (runs) ORDER BY r.id FOR NO KEY UPDATE;
END $$;

-- Moves runs on and appends to their journals. Returns which commits were accepted, by index; NULL means all.
CREATE FUNCTION holdfast.advance(
    turn bigint, runs text[], positions bigint[], epochs bigint[], counts bigint[], ids text[], ats bigint[],
    workers text[], facts json[], statuses text[], waits text[], progresses text[], errors text[], known bigint,
    OUT accepted bigint[], OUT tx xid8
) LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off SET lock_timeout = '20s' AS $$
BEGIN
    -- Groups of one process take turns, also when a lost connection's group still goes on at the server: so (tx, seq)
    -- of one worker's commits rises in the order in which they become visible.
    PERFORM pg_advisory_xact_lock(1215261796, turn::int);
    WITH moved AS (
        UPDATE holdfast.workflow_runs AS r SET
            position = g.position + g.count,
            last_commit = g.id,
            waiting_on = g.waits,
            progress = coalesce(g.progress, r.progress),
            format = greatest(r.format, known),
            updated_at = g.at,
            status = coalesce(g.status, r.status),
            error = CASE WHEN g.status IS NULL THEN r.error ELSE g.error END,
            completed_at = CASE WHEN g.status IS NULL THEN r.completed_at
                                WHEN g.status IN ('completed', 'failed', 'cancelled') THEN g.at ELSE 0 END,
            started_at = CASE WHEN r.started_at = 0 AND g.status <> 'pending' THEN g.at ELSE r.started_at END
        FROM unnest(runs, positions, epochs, counts, ids, ats, workers, facts, statuses, waits, progresses, errors)
            WITH ORDINALITY AS g (run, position, epoch, count, id, at, worker, facts, status, waits, progress, error, n)
        WHERE r.id = g.run AND r.position = g.position AND r.epoch = g.epoch
        RETURNING g.run, g.position, g.count, g.at, g.epoch, g.id, g.worker, g.facts, g.n
    ), written AS (
        INSERT INTO holdfast.journal (run, position, count, at, era, epoch, commit_id, worker, facts)
        SELECT moved.run, moved.position + 1, moved.count, moved.at, (SELECT max(era) FROM holdfast.eras), moved.epoch,
            moved.id, moved.worker, moved.facts
        FROM moved WHERE moved.count > 0
    )
    SELECT array_agg(moved.n - 1) INTO accepted FROM moved;
    IF cardinality(accepted) = cardinality(runs) THEN
        accepted := NULL;
    ELSE
        accepted := coalesce(accepted, '{}');
    END IF;
    tx := pg_current_xact_id_if_assigned();
END $$;

-- Begins runs whose ids are not taken, with their journals. Returns which, by index; NULL means all.
CREATE FUNCTION holdfast.open(
    turn bigint, ids text[], workflows text[], versions text[], hashes text[], statuses text[], queues text[],
    priorities bigint[], tags text[], params json[], secrets text[], parents text[], positions bigint[],
    epochs bigint[], commits text[], waits text[], errors text[], progresses text[], formats bigint[],
    created bigint[], started bigint[], completed bigint[], updated bigint[], workers text[], facts json[],
    OUT accepted bigint[], OUT tx xid8
) LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off SET lock_timeout = '20s' AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(1215261796, turn::int);
    WITH given AS MATERIALIZED (
        SELECT * FROM unnest(
            ids, workflows, versions, hashes, statuses, queues, priorities, tags, params, secrets, parents, positions,
            epochs, commits, waits, errors, progresses, formats, created, started, completed, updated, workers, facts
        ) WITH ORDINALITY AS g (
            id, workflow, version, hash, status, queue, priority, tags, params, secrets, parent, position,
            epoch, commit, waits, error, progress, format, created, started, completed, updated, worker, facts, n
        )
    ), begun AS (
        INSERT INTO holdfast.workflow_runs (
            id, workflow, version, hash, status, queue, priority, tags, params, secrets, parent, position, epoch,
            last_commit, waiting_on, error, progress, format, created_at, started_at, completed_at, updated_at
        )
        SELECT g.id, g.workflow, g.version, g.hash, g.status, g.queue, g.priority, g.tags, g.params, g.secrets,
            g.parent, g.position, g.epoch, g.commit, g.waits, g.error, g.progress, g.format, g.created, g.started,
            g.completed, g.updated
        FROM given AS g
        WHERE NOT EXISTS (SELECT 1 FROM holdfast.tombstones AS t WHERE t.run = g.id)
        ORDER BY g.n
        ON CONFLICT (id) DO NOTHING
        RETURNING id
    ), written AS (
        INSERT INTO holdfast.journal (run, position, count, at, era, epoch, commit_id, worker, facts)
        SELECT g.id, 1, g.position, g.updated, (SELECT max(era) FROM holdfast.eras), g.epoch, g.commit, g.worker,
            g.facts
        FROM given AS g JOIN begun ON begun.id = g.id WHERE g.position > 0
    ), tagged AS (
        INSERT INTO holdfast.run_tags (tag, created_at, run)
        SELECT tag, g.created, g.id
        FROM given AS g JOIN begun ON begun.id = g.id, json_array_elements_text(g.tags::json) AS tag
        WHERE g.tags <> '[]'
        ON CONFLICT DO NOTHING
    )
    SELECT array_agg(g.n - 1) INTO accepted FROM given AS g JOIN begun ON begun.id = g.id;
    IF cardinality(accepted) = cardinality(ids) THEN
        accepted := NULL;
    ELSE
        accepted := coalesce(accepted, '{}');
    END IF;
    tx := pg_current_xact_id_if_assigned();
END $$;

-- Deletes the arrivals that commits took.
CREATE FUNCTION holdfast.consume(runs text[], commits text[], taken bigint[]) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off SET lock_timeout = '20s' AS $$
BEGIN
    DELETE FROM holdfast.inbox AS i USING unnest(runs, commits, taken) AS g (run, commit, id), holdfast.workflow_runs AS r
    WHERE i.id = g.id AND i.run = g.run
        AND r.id = g.run AND r.last_commit = g.commit AND r.xmin = pg_current_xact_id()::xid;
END $$;

-- Deletes arrivals by their keys, or by how these begin.
CREATE FUNCTION holdfast.withdraw(runs text[], commits text[], keys text[], prefixes bigint[])
RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off SET lock_timeout = '20s' AS $$
BEGIN
    DELETE FROM holdfast.inbox AS i
    USING unnest(runs, commits, keys, prefixes) AS g (run, commit, key, prefix), holdfast.workflow_runs AS r
    WHERE i.run = g.run AND (i.key = g.key OR g.prefix = 1 AND starts_with(coalesce(i.key, ''), g.key))
        AND r.id = g.run AND r.last_commit = g.commit AND r.xmin = pg_current_xact_id()::xid;
END $$;

-- Puts arrivals into inboxes of the commits' own runs and of others, and wakes who may take them at once.
CREATE FUNCTION holdfast.send(
    runs text[], commits text[], targets text[], keys text[], dues bigint[], ats bigint[], facts json[]
) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off SET lock_timeout = '20s' AS $$
BEGIN
    WITH arrived AS (
        INSERT INTO holdfast.inbox (run, key, due, at, fact)
        SELECT g.target, g.key, g.due, g.at, g.fact
        FROM unnest(runs, commits, targets, keys, dues, ats, facts)
            WITH ORDINALITY AS g (run, commit, target, key, due, at, fact, n)
        JOIN holdfast.workflow_runs AS r
            ON r.id = g.run AND r.last_commit = g.commit AND r.xmin = pg_current_xact_id()::xid
        JOIN holdfast.workflow_runs AS other
            ON other.id = g.target AND (g.target = g.run OR other.status <> 'completed')
        ORDER BY g.n
        ON CONFLICT (run, key) DO NOTHING
        RETURNING run, key, due
    )
    INSERT INTO holdfast.jobs (run, queue, workflow, priority, wakes)
    SELECT r.id, r.queue, r.workflow, r.priority, woken.wakes
    FROM (
        SELECT a.run, count(*) AS wakes FROM arrived AS a WHERE a.due = 0 GROUP BY a.run
    ) AS woken JOIN holdfast.workflow_runs AS r ON r.id = woken.run
    WHERE r.status NOT IN ('completed', 'failed', 'cancelled')
    ON CONFLICT (run) DO UPDATE SET wakes = jobs.wakes + excluded.wakes;
END $$;

-- Deletes jobs; those with `seen` only where the job is the worker's and was not woken more often than that. A run that
-- is woken stays running; returned are the indexes of those commits, and how often their jobs were woken.
CREATE FUNCTION holdfast.dequeue(runs text[], commits text[], held_by text[], seen bigint[])
RETURNS TABLE (n bigint, wakes bigint) LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off SET lock_timeout = '20s' AS $$
BEGIN
    DELETE FROM holdfast.jobs AS j
    USING unnest(runs, commits, held_by, seen) AS g (run, commit, worker, seen), holdfast.workflow_runs AS r
    WHERE j.run = g.run AND (g.seen IS NULL OR (j.worker = g.worker AND j.wakes = g.seen))
        AND r.id = g.run AND r.last_commit = g.commit AND r.xmin = pg_current_xact_id()::xid;
    RETURN QUERY
    WITH stays AS (
        UPDATE holdfast.workflow_runs AS r SET
            status = 'running', waiting_on = '[]', completed_at = 0,
            started_at = CASE WHEN r.started_at = 0 THEN r.updated_at ELSE r.started_at END
        FROM unnest(runs, commits, held_by, seen) WITH ORDINALITY AS g (run, commit, worker, seen, n), holdfast.jobs AS j
        WHERE g.seen IS NOT NULL AND j.run = g.run AND j.worker = g.worker
            AND r.id = g.run AND r.last_commit = g.commit AND r.xmin = pg_current_xact_id()::xid
        RETURNING g.n - 1 AS n, j.wakes AS wakes
    )
    SELECT stays.n, stays.wakes FROM stays;
END $$;

-- Inserts jobs, ready or held. A worker that was reclaimed and does not know it yet can hold none.
CREATE FUNCTION holdfast.enqueue(
    runs text[], commits text[], queues text[], workflows text[], priorities bigint[], holders text[]
) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off SET lock_timeout = '20s' AS $$
DECLARE
    living text[];
    enlisted text[];
BEGIN
    -- Who is just being reclaimed is locked, and counts as gone.
    SELECT array_agg(w.id) INTO living FROM (
        SELECT id FROM holdfast.workers WHERE id = ANY (holders) AND stopped_at = 0 FOR KEY SHARE SKIP LOCKED
    ) AS w;
    SELECT array_agg(id) INTO enlisted FROM holdfast.workers WHERE id = ANY (holders);
    INSERT INTO holdfast.jobs (run, queue, workflow, priority, worker)
    SELECT g.run, g.queue, g.workflow, g.priority,
        CASE WHEN g.holder = ANY (enlisted) AND (g.holder = ANY (living)) IS NOT TRUE THEN '' ELSE g.holder END
    FROM unnest(runs, commits, queues, workflows, priorities, holders)
        WITH ORDINALITY AS g (run, commit, queue, workflow, priority, holder, n)
    JOIN holdfast.workflow_runs AS r
        ON r.id = g.run AND r.last_commit = g.commit AND r.xmin = pg_current_xact_id()::xid
    ORDER BY g.n
    ON CONFLICT (run) DO UPDATE SET
        queue = excluded.queue, workflow = excluded.workflow, priority = excluded.priority, worker = excluded.worker,
        deaths = 0;
END $$;

-- Keeps large values; the first one under a hash stays.
CREATE FUNCTION holdfast.keep(runs text[], commits text[], hashes text[], given bytea[]) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off SET lock_timeout = '20s' AS $$
BEGIN
    INSERT INTO holdfast.payloads (run, hash, data)
    SELECT g.run, g.hash, g.data FROM unnest(runs, commits, hashes, given) AS g (run, commit, hash, data)
    JOIN holdfast.workflow_runs AS r
        ON r.id = g.run AND r.last_commit = g.commit AND r.xmin = pg_current_xact_id()::xid
    ON CONFLICT DO NOTHING;
END $$;

-- Keeps folds of journals as they are after these commits.
CREATE FUNCTION holdfast.fold(runs text[], commits text[], programs text[], given bytea[])
RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off SET lock_timeout = '20s' AS $$
BEGIN
    INSERT INTO holdfast.checkpoints (run, hash, position, at, data)
    SELECT g.run, g.hash, r.position, r.updated_at, g.data
    FROM unnest(runs, commits, programs, given) AS g (run, commit, hash, data)
    JOIN holdfast.workflow_runs AS r
        ON r.id = g.run AND r.last_commit = g.commit AND r.xmin = pg_current_xact_id()::xid
    ON CONFLICT (run, hash, position) DO UPDATE SET at = excluded.at, data = excluded.data;
END $$;
