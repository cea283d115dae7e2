, fetched as materialized (
    select g.seq, g.job_id, g.attempt, g.rescues, j.kind_id, j.max_attempts, j.args, j.unique_key, j.unique_while,
        j.trace, j.expires_at, j.priority
    from gone g join biplane.job j on j.id = g.job_id
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
    coalesce(expires_at <= now(), false) as expired, priority
from fetched
order by seq
