-- min_code: 1
--
-- A step that is a child run is a stage, too, and runs while the child does.

DROP VIEW stages;

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
            WHEN last.due_us <= (julianday('now') - 2440587.5) * 86400000000.0 + 1000
                AND (jobs.worker <> '' OR json_extract(last.scheduled, '$.kind') = 'run') THEN 'running'
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
    AND coalesce(json_extract(last.scheduled, '$.kind'), 'call') IN ('call', 'run')
    AND json_extract(last.scheduled, '$.parent') IS NULL
    AND json_extract(last.scheduled, '$.name') <> 'START';
