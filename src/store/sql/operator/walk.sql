-- The next jobs of one state behind an id, and which of them are meant. What is over may have lost its payload.
-- $1 state, $2 queues, $3 behind this id, $4 how many, $5 kinds, $6 key, $7 args, $8 seconds.
with page as materialized (
    (
        select job_id, null::integer as kind_id from biplane.deferred
        where $1 = case reason when 'r' then 'retrying' when 'w' then 'waiting' else 'scheduled' end and job_id > $3
            and ($2::integer[] is null or queue_id = any ($2))
            and ($8::bigint is null or job_id >= biplane.first_job_id(now() - $8 * interval '1 second'))
        order by job_id limit $4
    ) union all (
        select h.job_id, null from biplane.lease l cross join lateral unnest(l.job_ids) as h (job_id)
        where $1 = 'running' and h.job_id > $3 and ($2::integer[] is null or l.queue_id = any ($2))
            and ($8::bigint is null or h.job_id >= biplane.first_job_id(now() - $8 * interval '1 second'))
        order by h.job_id limit $4
    ) union all (
        select job_id, kind_id from biplane.failed
        where $1 = 'failed' and job_id > $3 and ($2::integer[] is null or queue_id = any ($2))
            and ($8::bigint is null or failed_at >= now() - $8 * interval '1 second')
        order by job_id limit $4
    ) union all (
        select job_id, kind_id from biplane.done
        where $1 in ('cancelled', 'discarded') and outcome = case $1 when 'cancelled' then 'c' else 'd' end::"char"
            and job_id > $3 and ($2::integer[] is null or queue_id = any ($2))
            and done_at >= now() - coalesce($8::bigint, 3600) * interval '1 second'
        order by job_id limit $4
    )
)
select p.job_id,
    ($5::integer[] is null or coalesce(j.kind_id, p.kind_id) = any ($5))
        and ($6::text is null or coalesce(j.unique_key = $6, false))
        and ($7::text is null or coalesce(j.args @> $7::text::jsonb, false)) as meant
from page p left join biplane.job j on j.id = p.job_id
order by p.job_id
