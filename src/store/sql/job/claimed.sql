, fetched as materialized (
    select g.seq, g.job_id, g.attempt, g.rescues, j.kind_id, j.max_attempts, j.args, j.unique_key, j.unique_while,
        j.trace, j.expires_at, j.priority, p.job_id is not null as remembered,
        g.attempt > 1 or g.rescues > 0 or p.kept is not null as started,
        coalesce(p.run_at, biplane.job_created_at(g.job_id)) as run_at
    from gone g
        join biplane.job j on j.id = g.job_id
        left join biplane.progress p on p.job_id = g.job_id
), left_states as materialized (
    -- A claim that is not held while a job runs is let go as it starts.
    select job_id, kind_id, unique_key from fetched where unique_while & 4 = 0
), told as (
    select seq, job_id, attempt, rescues, kind_id, max_attempts, args::text, unique_key is not null as keyed, trace,
        not started and coalesce(expires_at <= now(), false) as expired, priority, remembered, started,
        (extract(epoch from run_at) * 1000)::bigint as run_at, extract(epoch from now() - run_at)::float8 as due_for
    from fetched
)
