, fetched as materialized (
    select g.seq, g.job_id, g.attempt, g.rescues, j.kind_id, j.max_attempts, j.args, j.unique_key, j.unique_while,
        j.trace, j.expires_at, j.priority, p.job_id is not null as remembered,
        g.attempt > 1 or g.rescues > 0 or p.kept is not null as started,
        coalesce(p.run_at, biplane.job_created_at(g.job_id)) as run_at
    from gone g
        join biplane.job j on j.id = g.job_id
        left join biplane.progress p on p.job_id = g.job_id
), locked as materialized (
    -- A claim that is not held while a job runs is let go as it starts. In the order in which keys are taken.
    select c.kind_id, c.key, c.expires_at is null as bare
    from biplane.unique_claim c
        join fetched f on c.kind_id = f.kind_id and c.key = f.unique_key and c.job_id = f.job_id
    where f.unique_while & 4 = 0
    order by c.kind_id, c.key collate "C"
    for update of c
), held_on as (
    update biplane.unique_claim c set held = false
    from locked l where c.kind_id = l.kind_id and c.key = l.key and not l.bare
), let_go as (
    delete from biplane.unique_claim c
    using locked l where c.kind_id = l.kind_id and c.key = l.key and l.bare
)
select seq, job_id, attempt, rescues, kind_id, max_attempts, args::text, unique_key is not null as keyed, trace,
    not started and coalesce(expires_at <= now(), false) as expired, priority, remembered, started,
    (extract(epoch from run_at) * 1000)::bigint as run_at, extract(epoch from now() - run_at)::float8 as due_for
from fetched
order by seq
