-- min_code: 1
--
--   chunks   what steps sent to readers while they ran, in order; `data` is NULL where a repeated attempt began anew.
--            `position` is how many facts the run had then. They go with their run.
--
-- Who writes them locks the run's row anyhow, so the foreign key costs no lock more.

CREATE TABLE holdfast.chunks (
    number bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
    run text COLLATE "C" NOT NULL REFERENCES holdfast.workflow_runs (id) ON DELETE CASCADE,
    position bigint NOT NULL,
    step text NOT NULL,
    attempt bigint NOT NULL,
    at bigint NOT NULL,
    data json
);
CREATE INDEX chunks_run ON holdfast.chunks (run, number);

-- Keeps chunks in their order, of runs that are there, and has other processes look.
CREATE FUNCTION holdfast.keep_chunks(
    runs text[], steps text[], attempts bigint[], ats bigint[], given json[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM holdfast.workflow_runs WHERE id = ANY (runs) ORDER BY id FOR UPDATE;
    INSERT INTO holdfast.chunks (run, position, step, attempt, at, data)
    SELECT c.run, r.position, c.step, c.attempt, c.at, c.data
    FROM unnest(runs, steps, attempts, ats, given) WITH ORDINALITY AS c (run, step, attempt, at, data, n)
    JOIN holdfast.workflow_runs AS r ON r.id = c.run
    ORDER BY c.n;
    PERFORM holdfast.hint();
END $$;
