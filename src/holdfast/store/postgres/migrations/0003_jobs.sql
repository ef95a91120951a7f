-- min_code: 1
--
-- What everyone but a run's holder writes: arrivals, claims, leases, deaths, deletions.

-- Says to other processes that this transaction wrote something to be looked at.
CREATE FUNCTION holdfast.hint() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO holdfast.hints DEFAULT VALUES ON CONFLICT DO NOTHING;
END $$;

-- Makes the jobs of runs ready, or raises their wakes; none for an ended run. The runs are locked.
CREATE FUNCTION holdfast.wake(runs text[]) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off AS $$
BEGIN
    INSERT INTO holdfast.jobs (run, queue, workflow, priority, wakes)
    SELECT r.id, r.queue, r.workflow, r.priority, woken.wakes
    FROM (SELECT g.run, count(*) AS wakes FROM unnest(runs) AS g (run) GROUP BY g.run) AS woken
    JOIN holdfast.workflow_runs AS r ON r.id = woken.run
    WHERE r.status NOT IN ('completed', 'failed', 'cancelled')
    ON CONFLICT (run) DO UPDATE SET wakes = jobs.wakes + excluded.wakes;
END $$;

-- Puts arrivals into inboxes, in order. `allowed` and `wakes` are statuses with a comma before and after each.
CREATE FUNCTION holdfast.deliver(
    runs text[], keys text[], facts json[], allowed text[], wakes text[], reopens bigint[], at bigint
) RETURNS TABLE (outcome text, status text, worker text) LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off SET lock_timeout = '20s' AS $$
BEGIN
    PERFORM holdfast.hint();
    PERFORM holdfast.lock_runs(runs);
    FOR n IN 1 .. cardinality(runs) LOOP
        SELECT r.status, coalesce(j.worker, '') INTO status, worker
        FROM holdfast.workflow_runs AS r LEFT JOIN holdfast.jobs AS j ON j.run = r.id WHERE r.id = runs[n];
        IF NOT FOUND THEN
            outcome := 'unknown';
        ELSIF strpos(allowed[n], ',' || status || ',') = 0 THEN
            outcome := 'refused';
        ELSE
            INSERT INTO holdfast.inbox (run, key, due, at, fact) VALUES (runs[n], keys[n], 0, at, facts[n])
            ON CONFLICT (run, key) DO NOTHING;
            IF NOT FOUND THEN
                outcome := 'repeated';
            ELSE
                outcome := 'delivered';
                IF reopens[n] = 1 AND worker = '' AND status IN ('paused', 'failed', 'cancelled') THEN
                    UPDATE holdfast.workflow_runs AS r
                    SET status = 'pending', waiting_on = '[]', error = NULL, completed_at = 0, updated_at = at
                    WHERE r.id = runs[n];
                END IF;
                IF strpos(wakes[n], ',' || status || ',') > 0 THEN
                    PERFORM holdfast.wake(ARRAY[runs[n]]);
                END IF;
            END IF;
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;

-- The first ready jobs of these lanes: larger priority first, then the older.
CREATE FUNCTION holdfast.ready(
    queues text[], workflows text[], most bigint, fewest_deaths bigint, most_deaths bigint, known bigint
) RETURNS TABLE (id bigint, priority bigint, run text) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET enable_bitmapscan = off SET jit = off AS $$
BEGIN
    RETURN QUERY
    SELECT first.id, first.priority, first.run
    FROM unnest(queues, workflows) AS lane (queue, workflow) CROSS JOIN LATERAL (
        SELECT j.id, j.priority, j.run
        FROM holdfast.jobs AS j JOIN holdfast.workflow_runs AS r ON r.id = j.run
        WHERE j.worker = '' AND j.queue = lane.queue AND j.workflow = lane.workflow
            AND j.deaths BETWEEN fewest_deaths AND most_deaths AND r.format <= known
        ORDER BY j.priority DESC, j.id LIMIT most
    ) AS first
    ORDER BY first.priority DESC, first.id LIMIT most;
END $$;

-- Takes ready jobs for a worker and raises the epochs of their runs; skips what others are just writing. Nothing is
-- written when there is none. None for a worker that was reclaimed or just is.
CREATE FUNCTION holdfast.claim(
    claimer text, queues text[], workflows text[], most bigint, fewest_deaths bigint, most_deaths bigint, known bigint
) RETURNS TABLE (deaths bigint, wakes bigint, run holdfast.workflow_runs) LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
    span bigint := most;
    seen bigint[];
    taken bigint[];
BEGIN
    LOOP
        SELECT array_agg(c.id) INTO seen
        FROM holdfast.ready(queues, workflows, span, fewest_deaths, most_deaths, known) AS c;
        IF seen IS NULL OR holdfast.is_stopped(claimer) THEN
            RETURN;
        END IF;
        -- `length` instead of a comparison, so that a plan from young tables cannot walk all of jobs_ready.
        SELECT array_agg(locked.id) INTO taken FROM (
            SELECT j.id FROM holdfast.jobs AS j JOIN holdfast.workflow_runs AS r ON r.id = j.run
            WHERE j.id = ANY (seen) AND length(j.worker) = 0
            ORDER BY j.priority DESC, j.id LIMIT most FOR NO KEY UPDATE OF j, r SKIP LOCKED
        ) AS locked;
        EXIT WHEN taken IS NOT NULL OR cardinality(seen) < span;
        span := span * 4;
    END LOOP;
    RETURN QUERY
    WITH held AS (
        UPDATE holdfast.jobs AS j SET worker = claimer WHERE j.id = ANY (taken)
        RETURNING j.id, j.priority, j.run, j.deaths, j.wakes
    ), fenced AS (
        UPDATE holdfast.workflow_runs AS r SET epoch = r.epoch + 1 FROM held WHERE r.id = held.run
        RETURNING held.deaths, held.wakes, r AS run, held.priority, held.id
    )
    SELECT fenced.deaths, fenced.wakes, fenced.run FROM fenced ORDER BY fenced.priority DESC, fenced.id;
END $$;

-- Takes the job of one run, made when there is none, unless somebody holds it or nothing is left to do.
CREATE FUNCTION holdfast.claim_run(claimer text, wanted text, known bigint)
RETURNS TABLE (deaths bigint, wakes bigint, run holdfast.workflow_runs) LANGUAGE plpgsql
SET lock_timeout = '20s' AS $$
BEGIN
    IF holdfast.is_stopped(claimer) THEN
        RETURN;
    END IF;
    PERFORM 1 FROM holdfast.workflow_runs AS r
    WHERE r.id = wanted AND r.status NOT IN ('completed', 'failed', 'cancelled') AND r.format <= known
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    RETURN QUERY
    WITH held AS (
        INSERT INTO holdfast.jobs AS j (run, queue, workflow, priority, worker)
        SELECT r.id, r.queue, r.workflow, r.priority, claimer FROM holdfast.workflow_runs AS r WHERE r.id = wanted
        ON CONFLICT ON CONSTRAINT jobs_run_key DO UPDATE SET worker = excluded.worker WHERE j.worker = ''
        RETURNING j.run, j.deaths, j.wakes
    )
    UPDATE holdfast.workflow_runs AS r SET epoch = r.epoch + 1 FROM held WHERE r.id = held.run
    RETURNING held.deaths, held.wakes, r;
END $$;

-- Tells whether a worker was reclaimed, or just is, and has not enlisted anew; who did cannot be until we are done.
CREATE FUNCTION holdfast.is_stopped(asked text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM holdfast.workers AS w WHERE w.id = asked AND w.stopped_at = 0 FOR KEY SHARE SKIP LOCKED;
    RETURN NOT FOUND AND EXISTS (SELECT 1 FROM holdfast.workers AS w WHERE w.id = asked);
END $$;

-- Makes jobs of a worker ready again, without a death.
CREATE FUNCTION holdfast.release(holder text, runs text[]) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off SET lock_timeout = '20s' AS $$
BEGIN
    PERFORM holdfast.lock_runs(runs);
    UPDATE holdfast.jobs AS j SET worker = '' WHERE j.run = ANY (runs) AND j.worker = holder;
    IF FOUND THEN
        PERFORM holdfast.hint();
    END IF;
END $$;

-- Frees the jobs of dead workers and shuts these out. With `at` only of those whose lease was over by then.
CREATE FUNCTION holdfast.reclaim(dead text[], expired bigint, at bigint) RETURNS TABLE (run text) LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off SET lock_timeout = '20s' AS $$
DECLARE
    gone text[];
    runs text[];
BEGIN
    SELECT array_agg(locked.id) INTO gone FROM (
        SELECT w.id FROM holdfast.workers AS w
        WHERE w.id = ANY (dead) AND (expired = 0 OR w.leased_until < at) ORDER BY w.id FOR UPDATE
    ) AS locked;
    IF expired = 0 THEN
        gone := dead;
    END IF;
    PERFORM holdfast.hint();
    UPDATE holdfast.workers AS w SET stopped_at = at WHERE w.id = ANY (gone) AND w.stopped_at = 0;
    SELECT array_agg(j.run) INTO runs FROM holdfast.jobs AS j WHERE j.worker = ANY (gone) AND j.worker <> '';
    PERFORM holdfast.lock_runs(runs);
    RETURN QUERY
    WITH freed AS (
        UPDATE holdfast.jobs AS j SET worker = '', deaths = j.deaths + 1
        WHERE j.run = ANY (runs) AND j.worker = ANY (gone) AND j.worker <> '' RETURNING j.run
    ), fenced AS (
        UPDATE holdfast.workflow_runs AS r SET epoch = r.epoch + 1 FROM freed WHERE r.id = freed.run
    )
    SELECT freed.run FROM freed;
END $$;

-- Makes the runs of due arrivals ready; skips runs that are just written. Returns how many arrivals were moved.
CREATE FUNCTION holdfast.move_due(instant bigint, most bigint) RETURNS bigint LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off AS $$
DECLARE
    due_ids bigint[];
    runs text[];
BEGIN
    SELECT array_agg(first.id) INTO due_ids FROM (
        SELECT i.id FROM holdfast.inbox AS i WHERE i.due > 0 AND i.due <= instant ORDER BY i.due, i.id LIMIT most
    ) AS first;
    IF due_ids IS NULL THEN
        RETURN 0;
    END IF;
    SELECT array_agg(locked.id) INTO runs FROM (
        SELECT r.id FROM holdfast.workflow_runs AS r
        WHERE r.id IN (SELECT i.run FROM holdfast.inbox AS i WHERE i.id = ANY (due_ids))
        ORDER BY r.id FOR NO KEY UPDATE SKIP LOCKED
    ) AS locked;
    WITH moved AS (
        UPDATE holdfast.inbox AS i SET due = 0
        WHERE i.id = ANY (due_ids) AND i.due > 0 AND i.run = ANY (runs) RETURNING i.run
    )
    SELECT array_agg(moved.run) INTO runs FROM moved;
    PERFORM holdfast.wake(runs);
    PERFORM holdfast.hint();
    DELETE FROM holdfast.hints WHERE tx::text::bigint < pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 100000;
    RETURN coalesce(cardinality(runs), 0);
END $$;

-- Deletes an ended run and its descendants; with `keep_ids` their ids stay taken.
CREATE FUNCTION holdfast.delete_run(root text, keep_ids bigint, at bigint)
RETURNS TABLE (outcome text, status text, worker text) LANGUAGE plpgsql
SET lock_timeout = '20s' AS $$
DECLARE
    family text[];
BEGIN
    LOOP  -- until nobody began a child while we waited for the locks
        PERFORM holdfast.lock_runs(family);
        EXIT WHEN family @> holdfast.family(root);
        family := holdfast.family(root);
    END LOOP;
    outcome := 'unknown';
    FOR n IN 1 .. coalesce(cardinality(family), 0) LOOP
        SELECT r.status, coalesce(j.worker, '') INTO status, worker
        FROM holdfast.workflow_runs AS r LEFT JOIN holdfast.jobs AS j ON j.run = r.id WHERE r.id = family[n];
        outcome := CASE WHEN status IN ('completed', 'failed', 'cancelled') THEN 'delivered' ELSE 'refused' END;
        EXIT WHEN outcome = 'refused';
    END LOOP;
    IF outcome = 'delivered' THEN
        SELECT r.status, coalesce(j.worker, '') INTO status, worker
        FROM holdfast.workflow_runs AS r LEFT JOIN holdfast.jobs AS j ON j.run = r.id WHERE r.id = root;
        IF keep_ids = 1 THEN
            INSERT INTO holdfast.tombstones (run, at) SELECT unnest(family), delete_run.at
            ON CONFLICT ON CONSTRAINT tombstones_pkey DO UPDATE SET at = excluded.at;
        END IF;
        DELETE FROM holdfast.journal WHERE run = ANY (family);
        DELETE FROM holdfast.checkpoints WHERE run = ANY (family);
        DELETE FROM holdfast.payloads WHERE run = ANY (family);
        DELETE FROM holdfast.inbox WHERE run = ANY (family);
        DELETE FROM holdfast.jobs WHERE run = ANY (family);
        DELETE FROM holdfast.run_tags WHERE run = ANY (family);
        DELETE FROM holdfast.workflow_runs WHERE id = ANY (family);
    END IF;
    RETURN NEXT;
END $$;

-- A run and all its descendants, children after their parents; empty when it is unknown.
CREATE FUNCTION holdfast.family(root text) RETURNS text[] LANGUAGE sql STABLE AS $$
    WITH RECURSIVE family (id, depth) AS (
        SELECT id, 0 FROM holdfast.workflow_runs WHERE id = root
        UNION
        SELECT child.id, family.depth + 1 FROM holdfast.workflow_runs AS child JOIN family ON child.parent = family.id
        WHERE child.parent <> ''
    )
    SELECT coalesce(array_agg(id ORDER BY depth, id), '{}') FROM family
$$;
