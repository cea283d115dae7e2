-- Outcomes for good of jobs without a unique key, under the leases that hold them. What no lease holds is left alone.
with mine as materialized (
    select batch_id, queue_id, job_ids, attempts, rescues from biplane.lease
    where batch_id = any ($1) and epoch = $2
    order by batch_id
    for update
), held as materialized (
    select m.batch_id, m.queue_id, h.job_id, h.attempt, h.rescues, h.place
    from mine m
        cross join lateral unnest(m.job_ids, m.attempts, m.rescues) with ordinality as h (job_id, attempt, rescues, place)
), settled as materialized (
    select h.batch_id, h.queue_id, h.job_id, h.attempt, i.kind_id, i.outcome, i.duration_ms, i.code, i.detail
    from unnest($3::bigint[], $4::integer[], $5::"char"[], $6::integer[], $7::text[], $8::text[])
            as i (job_id, kind_id, outcome, duration_ms, code, detail)
        join held h on h.job_id = i.job_id
), rest as materialized (
    select batch_id, array_agg(job_id order by place) as job_ids, array_agg(attempt order by place) as attempts,
        array_agg(rescues order by place) as rescues
    from held
    where job_id not in (select job_id from settled)
    group by batch_id
), kept as (
    update biplane.lease l set job_ids = r.job_ids, attempts = r.attempts, rescues = r.rescues
    from rest r
    where l.batch_id = r.batch_id and exists (select from settled s where s.batch_id = r.batch_id)
), gone as (
    delete from biplane.lease l
    using mine m
    where l.batch_id = m.batch_id and m.batch_id not in (select batch_id from rest)
), written as (
    insert into biplane.done (job_id, queue_id, kind_id, duration_ms, attempt, outcome, code, detail)
    select job_id, queue_id, kind_id, duration_ms, attempt, outcome, code, detail::jsonb from settled
)
select job_id from settled
