-- How many jobs of each state are meant. Payloads are looked at only where $6 says that the filter needs them.
-- $1 states, $2 queues, $3 kinds, $4 key, $5 args, $7 seconds.
with found as (
    select 'queued' as state, r.job_id, r.queue_id from biplane.ready r where 'queued' = any ($1)
    union all
    select case reason when 'r' then 'retrying' when 'w' then 'waiting' else 'scheduled' end, d.job_id, d.queue_id from biplane.deferred d
    where case reason when 'r' then 'retrying' when 'w' then 'waiting' else 'scheduled' end = any ($1)
    union all
    select 'running', h.job_id, l.queue_id from biplane.lease l cross join lateral unnest(l.job_ids) as h (job_id)
    where 'running' = any ($1)
    union all
    select 'failed', f.job_id, f.queue_id from biplane.failed f
    where 'failed' = any ($1) and ($7::bigint is null or f.failed_at >= now() - $7 * interval '1 second')
    union all
    select case d.outcome when 'c' then 'cancelled' else 'discarded' end, d.job_id, d.queue_id from biplane.done d
    where d.outcome in ('c', 'd') and case d.outcome when 'c' then 'cancelled' else 'discarded' end = any ($1)
        and d.done_at >= now() - coalesce($7::bigint, 3600) * interval '1 second'
)
select state, count(*) from found f
where ($2::integer[] is null or queue_id = any ($2))
    and ($7::bigint is null or state not in ('queued', 'scheduled', 'retrying', 'waiting', 'running')
        or job_id >= biplane.first_job_id(now() - $7 * interval '1 second'))
    and (not $6::boolean or exists (
        select from biplane.job j
        where j.id = f.job_id and ($3::integer[] is null or j.kind_id = any ($3))
            and ($4::text is null or j.unique_key = $4) and ($5::text is null or j.args @> $5::text::jsonb)
    ))
group by state
