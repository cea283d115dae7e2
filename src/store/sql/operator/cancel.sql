-- Ends jobs that wait for their time or their turn. Whoever runs one is asked to end it and loses it where it does
-- not within $4. Returns those that ended and those whose workers were asked.
with known as materialized (
    select id, kind_id, queue_id, priority, unique_key from biplane.job where id = any ($1)
), fresh as (
    delete from biplane.ready r using known k
    where r.queue_id = k.queue_id and r.lane = 0 and r.priority = k.priority and r.seq = k.id
    returning r.job_id, r.attempt
), back as (
    delete from biplane.ready where lane > 0 and job_id = any ($1) returning job_id, attempt
), later as (
    delete from biplane.deferred where job_id = any ($1) returning job_id, attempt
), ended as materialized (
    select e.job_id, e.attempt, k.queue_id, k.kind_id, k.unique_key
    from (select * from fresh union all select * from back union all select * from later) e
        join known k on k.id = e.job_id
), written as (
    insert into biplane.done (job_id, queue_id, kind_id, duration_ms, attempt, outcome, code, detail)
    select job_id, queue_id, kind_id, 0, attempt, 'c', 'asked', jsonb_build_object('by', $3::text) from ended
), asked as (
    insert into biplane.cancel_ask (job_id, epoch, fence_at, actor)
    select h.job_id, l.epoch, now() + $4 * interval '1 millisecond', $3
    from biplane.lease l cross join lateral unnest(l.job_ids) as h (job_id)
    where l.job_ids && $1::bigint[] and h.job_id = any ($1)
    on conflict (job_id) do update set epoch = excluded.epoch
    returning job_id
), left_states as materialized (
    select job_id, kind_id, unique_key from ended
), forgotten as (
    delete from biplane.progress where job_id in (select job_id from ended)
), over as (
    update biplane.callback set over = true, answer = null where not over and job_id in (select job_id from ended)
), noted as (
    update biplane.audit set detail = detail
        || jsonb_build_object('count', (detail ->> 'count')::bigint + (select count(*) from ended)
            + (select count(*) from asked))
    where id = $2
), told as (
    select array(select job_id from ended) as done, array(select job_id from asked) as asked
)
