-- min_code: 1
--
-- Views on the journal, for people.

-- JSON that PostgreSQL takes apart: it can hold no NUL in a text, so `\u0000` is shown as the replacement character.
CREATE FUNCTION holdfast.readable(given json) RETURNS json LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN strpos(given::text, '\u0000') = 0 THEN given
        ELSE regexp_replace(given::text, '(?<!\\)((?:\\\\)*)\\u0000', '\1\\ufffd', 'g')::json END
$$;

CREATE FUNCTION holdfast.shown(instant bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT to_char(timestamp '1970-01-01' + instant * interval '1 microsecond', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;

-- One row per fact.
CREATE VIEW holdfast.facts AS
SELECT
    journal.run AS run,
    journal.position + fact.number - 1 AS position,
    fact.body ->> 'fact' AS fact,
    holdfast.shown(coalesce((fact.body ->> 'at')::bigint, journal.at)) AS at,
    coalesce((fact.body ->> 'at')::bigint, journal.at) AS at_us,
    journal.worker AS worker,
    journal.commit_id AS commit_id,
    fact.body AS body
FROM holdfast.journal,
    json_array_elements(holdfast.readable(journal.facts)) WITH ORDINALITY AS fact (body, number);

-- One row per edge that a decision tried.
CREATE VIEW holdfast.decisions AS
SELECT
    facts.run AS run,
    facts.position AS position,
    facts.body ->> 'source' AS from_node,
    edge ->> 'target' AS to_node,
    coalesce(edge ->> 'name', '') AS name,
    coalesce((edge ->> 'result')::boolean, true)::int AS result,
    coalesce(edge ->> 'reason', '') AS reason,
    coalesce((edge ->> 'count')::bigint, 1) AS count,
    facts.at AS at
FROM holdfast.facts, json_array_elements(facts.body -> 'edges') AS edge
WHERE facts.fact = 'DecisionMade';

-- What happened to steps of any kind; a resume happens to each step that it reopens.
CREATE VIEW holdfast.step_history AS
SELECT
    run, body ->> 'step' AS step, position, fact, at_us, worker, body,
    coalesce((body ->> 'attempt')::bigint, 1) AS attempt,
    CASE WHEN fact IN ('StepScheduled', 'StepRetried') THEN coalesce((body ->> 'due')::bigint, at_us) END AS due_us
FROM holdfast.facts
WHERE fact IN ('StepScheduled', 'StepRetried', 'StepSuspended', 'StepCompleted', 'StepFailed', 'StepCancelled')
UNION ALL
SELECT
    facts.run, reopened ->> 0, facts.position, 'StepReopened', facts.at_us, facts.worker, '{}'::json,
    (reopened ->> 1)::bigint, facts.at_us
FROM holdfast.facts, json_array_elements(facts.body -> 'reopened') AS reopened
WHERE facts.fact = 'RunResumed';

-- One row per step of user code, with its last attempt. START makes the first state and calls inside a node belong
-- to their node, so neither is a stage.
CREATE VIEW holdfast.stages AS
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
            WHEN last.due_us <= extract(epoch FROM clock_timestamp()) * 1000000 + 1000 AND jobs.worker <> '' THEN 'running'
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
    AND coalesce(last.scheduled ->> 'kind', 'call') = 'call'
    AND last.scheduled ->> 'parent' IS NULL
    AND last.scheduled ->> 'name' <> 'START';
