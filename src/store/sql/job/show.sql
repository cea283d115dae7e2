-- One job wherever it stands; no row where it is not known any more.
with found as (
    select case reason when 'r' then 'retrying' when 'w' then 'waiting' else 'scheduled' end as state, queue_id, attempt,
        run_at as at, null as code, error as detail, null::uuid as batch_id, null::integer as kind_id
    from biplane.deferred where job_id = $1
    union all
    select 'queued', r.queue_id, r.attempt, null, null, null, null, null
    from biplane.job j join biplane.ready r
        on r.queue_id = j.queue_id and r.lane = 0 and r.priority = j.priority and r.seq = j.id
    where j.id = $1
    union all
    select 'queued', queue_id, attempt, null, null, null, null, null
    from biplane.ready where lane > 0 and job_id = $1
    union all
    select 'running', l.queue_id, l.attempts[array_position(l.job_ids, $1)], l.deadline_at, null, null, l.batch_id, null
    from biplane.lease l where $1 = any (l.job_ids)
    union all
    select 'failed', queue_id, attempt, failed_at, code, error, null, kind_id from biplane.failed where job_id = $1
    union all
    select case outcome when 's' then 'succeeded' when 'c' then 'cancelled' else 'discarded' end, queue_id, attempt,
        done_at, code, detail, null, kind_id
    from biplane.done where job_id = $1 and done_at >= biplane.job_created_at($1)
)
select f.state, q.name as queue, k.name as kind, f.attempt, j.max_attempts, j.priority, j.args::text,
    j.unique_key, j.trace, f.code, f.detail::text, f.batch_id,
    extract(epoch from now() - biplane.job_created_at($1))::float8 as age,
    extract(epoch from f.at - now())::float8 as until, p.told::text as progress
from found f
    left join biplane.job j on j.id = $1
    left join biplane.progress p on p.job_id = $1
    left join biplane.kind k on k.id = coalesce(j.kind_id, f.kind_id)
    left join biplane.queue q on q.id = f.queue_id
