-- min_code: 1
--
-- Takes ready jobs as `claim` does. Of a run that only began, and for which nothing has come since, also its facts: then
-- nothing else must be read to take it up. They are NULL when something has.
--
-- When all of them only began, the claim is not waited for until it is on the disk. Such a run's holder writes a fact
-- before it runs anything, and that is behind the claim in the log. If the server dies between the two, the next holder
-- begins where this one would have; of two that both believe in the same epoch, one gets its fact written.
CREATE FUNCTION holdfast.take_up(
    claimer text, queues text[], workflows text[], most bigint, fewest_deaths bigint, most_deaths bigint, known bigint,
    at bigint
) RETURNS TABLE (deaths bigint, wakes bigint, run holdfast.workflow_runs, began json) LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
    taken record;
    all_began boolean := true;
BEGIN
    FOR taken IN
        SELECT * FROM holdfast.claim(claimer, queues, workflows, most, fewest_deaths, most_deaths, known)
    LOOP
        deaths := taken.deaths;
        wakes := taken.wakes;
        run := taken.run;
        began := NULL;
        IF run.position > 1 THEN
            all_began := false;
        ELSIF wakes = 0 THEN
            SELECT j.facts INTO began FROM holdfast.journal AS j
            WHERE j.run = (take_up.run).id AND j.position = 1 AND NOT EXISTS (
                SELECT 1 FROM holdfast.inbox AS i WHERE i.run = j.run AND i.due <= holdfast.instant(take_up.at)
            );
        END IF;
        RETURN NEXT;
    END LOOP;
    IF all_began THEN
        PERFORM set_config('synchronous_commit', 'off', true);
    END IF;
END $$;
