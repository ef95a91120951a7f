-- min_code: 1
--
-- Child runs: how they begin in the transaction of their parents' commits, how they are taken up again, and that a step
-- which is one is a stage.

-- Begins runs whose parents' commits, in this transaction, were accepted. As `open`; none is refused by anybody.
CREATE FUNCTION holdfast.open_children(
    turn bigint, starters text[], starts text[],
    ids text[], workflows text[], versions text[], hashes text[], statuses text[], queues text[], priorities
    bigint[], tags text[], params json[], secrets text[], parents text[], positions bigint[], epochs bigint[],
    commits text[], waits text[], errors text[], progresses text[], formats bigint[], created bigint[], started
    bigint[], completed bigint[], updated bigint[], workers text[], facts json[]
) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off SET lock_timeout = '20s' AS $$
DECLARE
    begun bigint[];
BEGIN
    SELECT array_agg(g.n) INTO begun
    FROM unnest(starters, starts) WITH ORDINALITY AS g (run, commit, n)
    JOIN holdfast.workflow_runs AS r
        ON r.id = g.run AND r.last_commit = g.commit AND r.xmin = pg_current_xact_id()::xid;
    IF begun IS NULL THEN
        RETURN;
    END IF;
    PERFORM holdfast.open(
        turn,
        (SELECT array_agg(ids[i] ORDER BY i) FROM unnest(begun) AS i),
        (SELECT array_agg(workflows[i] ORDER BY i) FROM unnest(begun) AS i),
        (SELECT array_agg(versions[i] ORDER BY i) FROM unnest(begun) AS i),
        (SELECT array_agg(hashes[i] ORDER BY i) FROM unnest(begun) AS i),
        (SELECT array_agg(statuses[i] ORDER BY i) FROM unnest(begun) AS i),
        (SELECT array_agg(queues[i] ORDER BY i) FROM unnest(begun) AS i),
        (SELECT array_agg(priorities[i] ORDER BY i) FROM unnest(begun) AS i),
        (SELECT array_agg(tags[i] ORDER BY i) FROM unnest(begun) AS i),
        (SELECT array_agg(params[i] ORDER BY i) FROM unnest(begun) AS i),
        (SELECT array_agg(secrets[i] ORDER BY i) FROM unnest(begun) AS i),
        (SELECT array_agg(parents[i] ORDER BY i) FROM unnest(begun) AS i),
        (SELECT array_agg(positions[i] ORDER BY i) FROM unnest(begun) AS i),
        (SELECT array_agg(epochs[i] ORDER BY i) FROM unnest(begun) AS i),
        (SELECT array_agg(commits[i] ORDER BY i) FROM unnest(begun) AS i),
        (SELECT array_agg(waits[i] ORDER BY i) FROM unnest(begun) AS i),
        (SELECT array_agg(errors[i] ORDER BY i) FROM unnest(begun) AS i),
        (SELECT array_agg(progresses[i] ORDER BY i) FROM unnest(begun) AS i),
        (SELECT array_agg(formats[i] ORDER BY i) FROM unnest(begun) AS i),
        (SELECT array_agg(created[i] ORDER BY i) FROM unnest(begun) AS i),
        (SELECT array_agg(started[i] ORDER BY i) FROM unnest(begun) AS i),
        (SELECT array_agg(completed[i] ORDER BY i) FROM unnest(begun) AS i),
        (SELECT array_agg(updated[i] ORDER BY i) FROM unnest(begun) AS i),
        (SELECT array_agg(workers[i] ORDER BY i) FROM unnest(begun) AS i),
        (SELECT array_agg(facts[i] ORDER BY i) FROM unnest(begun) AS i)
    );
END $$;

-- Makes runs pending that a commit has go on: failed, cancelled or paused ones that nobody holds.
CREATE FUNCTION holdfast.go_on(runs text[], commits text[], targets text[], ats bigint[])
RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off SET lock_timeout = '20s' AS $$
BEGIN
    UPDATE holdfast.workflow_runs AS other
    SET status = 'pending', waiting_on = '[]', error = NULL, completed_at = 0, updated_at = g.at
    FROM unnest(runs, commits, targets, ats) AS g (run, commit, target, at)
    JOIN holdfast.workflow_runs AS r
        ON r.id = g.run AND r.last_commit = g.commit AND r.xmin = pg_current_xact_id()::xid
    WHERE other.id = g.target AND other.status IN ('paused', 'failed', 'cancelled')
        AND NOT EXISTS (SELECT 1 FROM holdfast.jobs AS j WHERE j.run = g.target AND j.worker <> '');
END $$;

CREATE OR REPLACE VIEW holdfast.stages AS
SELECT
    last.run AS run,
    last.step AS step,
    last.scheduled ->> 'name' AS name,
    coalesce((last.scheduled ->> 'iteration')::bigint, 1) AS iteration,
    last.attempt AS attempt,
    CASE last.fact
        WHEN 'StepCompleted' THEN 'completed'
        WHEN 'StepFailed' THEN 'failed'
        WHEN 'StepCancelled' THEN 'cancelled'
        WHEN 'StepSuspended' THEN 'suspended'
        ELSE CASE
            WHEN last.due_us <= extract(epoch FROM clock_timestamp()) * 1000000 + 1000
                AND (jobs.worker <> '' OR last.scheduled ->> 'kind' = 'run') THEN 'running'
            WHEN last.fact = 'StepRetried' THEN 'retrying'
            ELSE 'scheduled'
        END
    END AS status,
    CASE WHEN last.fact = 'StepCompleted' THEN (last.body -> 'data')::text END AS output,
    (last.body -> 'error')::text AS error,
    holdfast.shown(last.started_us) AS started_at,
    holdfast.shown(last.completed_us) AS completed_at,
    (last.completed_us - last.started_us)::float8 / 1000000 AS duration,
    CASE WHEN last.completed_us IS NULL THEN coalesce(jobs.worker, '') ELSE last.worker END AS worker
FROM (
    SELECT
        run, step, position, fact, worker, body, attempt, due_us,
        coalesce((body ->> 'started')::bigint, max(due_us) OVER (PARTITION BY run, step)) AS started_us,
        CASE WHEN fact IN ('StepCompleted', 'StepFailed', 'StepCancelled') THEN at_us END AS completed_us,
        (max(CASE WHEN fact = 'StepScheduled' THEN body::text END) OVER (PARTITION BY run, step))::json AS scheduled,
        row_number() OVER (PARTITION BY run, step ORDER BY position DESC) AS age
    FROM holdfast.step_history
) AS last
LEFT JOIN holdfast.jobs ON jobs.run = last.run
WHERE last.age = 1
    AND coalesce(last.scheduled ->> 'kind', 'call') IN ('call', 'run')
    AND last.scheduled ->> 'parent' IS NULL
    AND last.scheduled ->> 'name' <> 'START';
