-- Puts jobs off until $3, or by $4 milliseconds, with no attempt spent.
with known as materialized (
    select id, kind_id, queue_id, priority, unique_key, unique_while from biplane.job where id = any ($1)
), fresh as (
    delete from biplane.ready r using known k
    where r.queue_id = k.queue_id and r.lane = 0 and r.priority = k.priority and r.seq = k.id
    returning r.job_id, r.attempt
), back as (
    delete from biplane.ready where lane > 0 and job_id = any ($1) returning job_id, attempt
), taken as materialized (
    select t.job_id, t.attempt, k.kind_id, k.queue_id, k.priority, k.unique_key, k.unique_while
    from (select * from fresh union all select * from back) t join known k on k.id = t.job_id
), put as (
    insert into biplane.deferred (job_id, run_at, queue_id, attempt, priority, reason)
    select job_id, coalesce($3::text::timestamptz, now() + $4 * interval '1 millisecond'), queue_id, attempt,
        priority, 'z'
    from taken
), later as (
    update biplane.deferred set run_at = coalesce($3::text::timestamptz, now() + $4 * interval '1 millisecond')
    where job_id = any ($1) and reason <> 'w'
    returning job_id
), changed as materialized (
    select job_id from taken union all select job_id from later
), left_states as materialized (
    select job_id, kind_id, unique_key from taken where unique_while & 1 = 0
), noted as (
    update biplane.audit set detail = detail
        || jsonb_build_object('count', (detail ->> 'count')::bigint + (select count(*) from changed))
    where id = $2
), told as (
    select array(select job_id from changed) as done, '{}'::bigint[] as asked
)
