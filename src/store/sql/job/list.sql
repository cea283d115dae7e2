-- Jobs of one state, or of all in which they are not over; of one queue, of one kind, with one key, with args that
-- contain some. Each state's in the order in
-- which they come up: due first, started first, ended last first. Outcomes only of the last $5 seconds.
with queues as materialized (
    select id, name from biplane.queue where $2::text is null or name = $2
), kinds as materialized (
    select id, name from biplane.kind where $3::text is null or name = $3
), found as (
    (
        select 2 as rank, 'queued' as state, r.job_id, r.queue_id, r.kind_id, r.attempt, null::text as code,
            null::timestamptz as at, row_number() over () as place
        from queues q cross join lateral (
            select r.job_id, r.queue_id, j.kind_id, r.attempt
            from biplane.ready r join biplane.job j on j.id = r.job_id
            where r.queue_id = q.id and j.kind_id in (select id from kinds)
                and ($6::text is null or j.unique_key = $6) and ($7::text is null or j.args @> $7::text::jsonb)
            order by r.lane, r.priority, r.seq limit $4
        ) r
        where coalesce($1, 'queued') = 'queued'
        limit $4
    ) union all (
        select 1, 'running', h.job_id, l.queue_id, j.kind_id, h.attempt, null, l.deadline_at, row_number() over ()
        from biplane.lease l
            cross join lateral unnest(l.job_ids, l.attempts) as h (job_id, attempt)
            join biplane.job j on j.id = h.job_id
        where coalesce($1, 'running') = 'running' and l.queue_id in (select id from queues)
            and j.kind_id in (select id from kinds)
            and ($6::text is null or j.unique_key = $6) and ($7::text is null or j.args @> $7::text::jsonb)
        limit $4
    ) union all (
        select 3, s.state, d.job_id, d.queue_id, j.kind_id, d.attempt,
            d.error ->> 'code', d.run_at, row_number() over (order by d.run_at)
        from biplane.deferred d
            join biplane.job j on j.id = d.job_id
            cross join lateral (
                select case d.reason when 'r' then 'retrying' when 'w' then 'waiting' else 'scheduled' end as state
            ) s
        where coalesce($1, s.state) = s.state
            and d.queue_id in (select id from queues) and j.kind_id in (select id from kinds)
            and ($6::text is null or j.unique_key = $6) and ($7::text is null or j.args @> $7::text::jsonb)
        order by d.run_at limit $4
    ) union all (
        select 4, 'failed', f.job_id, f.queue_id, f.kind_id, f.attempt, f.code, f.failed_at,
            row_number() over (order by f.failed_at desc)
        from biplane.failed f
        where coalesce($1, 'failed') = 'failed' and f.queue_id in (select id from queues)
            and f.kind_id in (select id from kinds)
            and (coalesce($6::text, $7::text) is null or exists (
                select from biplane.job j where j.id = f.job_id
                    and ($6::text is null or j.unique_key = $6) and ($7::text is null or j.args @> $7::text::jsonb)
            ))
        order by f.failed_at desc limit $4
    ) union all (
        select 5, case d.outcome when 's' then 'succeeded' when 'c' then 'cancelled' else 'discarded' end, d.job_id,
            d.queue_id, d.kind_id, d.attempt, d.code, d.done_at, row_number() over (order by d.done_at desc)
        from biplane.done d
        where $1 = case d.outcome when 's' then 'succeeded' when 'c' then 'cancelled' else 'discarded' end
            and d.done_at > now() - $5 * interval '1 second'
            and d.queue_id in (select id from queues) and d.kind_id in (select id from kinds)
            and (coalesce($6::text, $7::text) is null or exists (
                select from biplane.job j where j.id = d.job_id
                    and ($6::text is null or j.unique_key = $6) and ($7::text is null or j.args @> $7::text::jsonb)
            ))
        order by d.done_at desc limit $4
    )
)
select f.job_id, f.state, q.name, k.name, f.attempt, f.code,
    extract(epoch from now() - biplane.job_created_at(f.job_id))::float8 as age,
    extract(epoch from f.at - now())::float8 as until
from found f join queues q on q.id = f.queue_id join kinds k on k.id = f.kind_id
order by f.rank, f.place
limit $4
