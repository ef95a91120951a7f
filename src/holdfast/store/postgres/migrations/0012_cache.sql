-- min_code: 1
--
-- Results of steps that later steps may take instead of running. An entry stands by itself: the run that made it may be
-- deleted, unless it is the owner. `key` and `family` are hashes, `parts` the hashes of what the result was made of.

CREATE TABLE holdfast.cache (
    key text COLLATE "C" NOT NULL PRIMARY KEY,
    family text COLLATE "C" NOT NULL,
    scope text COLLATE "C" NOT NULL,
    workflow text COLLATE "C" NOT NULL,
    step text COLLATE "C" NOT NULL,
    run text COLLATE "C" NOT NULL,
    at bigint NOT NULL,
    owner text COLLATE "C" REFERENCES holdfast.workflow_runs (id) ON DELETE CASCADE,
    expires bigint NOT NULL,
    parts json NOT NULL,
    body json NOT NULL
);
CREATE INDEX cache_family ON holdfast.cache (family, at);
CREATE INDEX cache_expires ON holdfast.cache (expires) WHERE expires > 0;
CREATE INDEX cache_owner ON holdfast.cache (owner) WHERE owner IS NOT NULL;

-- Keeps results of commits that were accepted. It is the last statement of its transaction and takes the keys in one
-- order, so that two that keep the same results wait for each other and not in a circle. `starts` are the commits of
-- the run from the one that made the result on: the run's row tells the last one that was accepted.
CREATE FUNCTION holdfast.keep_results(
    starters text[], starts text[], keys text[], families text[], scopes text[], workflows text[], steps text[],
    ats bigint[], owners text[], expiries bigint[], given_parts json[], bodies json[]
) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off SET lock_timeout = '20s' AS $$
BEGIN
    INSERT INTO holdfast.cache (key, family, scope, workflow, step, run, at, owner, expires, parts, body)
    SELECT DISTINCT ON (g.key)
        g.key, g.family, g.scope, g.workflow, g.step, g.run, g.at, g.owner, g.expires, g.parts, g.body
    FROM unnest(
        starters, starts, keys, families, scopes, workflows, steps, ats, owners, expiries, given_parts, bodies
    ) WITH ORDINALITY AS g (run, commit, key, family, scope, workflow, step, at, owner, expires, parts, body, n)
    JOIN holdfast.workflow_runs AS r
        ON r.id = g.run AND r.last_commit = g.commit AND r.xmin = pg_current_xact_id()::xid
    ORDER BY g.key, g.n DESC
    ON CONFLICT (key) DO UPDATE SET
        family = excluded.family, scope = excluded.scope, workflow = excluded.workflow, step = excluded.step,
        run = excluded.run, at = excluded.at, owner = excluded.owner, expires = excluded.expires,
        parts = excluded.parts, body = excluded.body;
END $$;
