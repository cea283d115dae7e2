-- Lets jobs run now. What was given up begins anew with all its attempts. All go through `deferred`, where they are
-- due at once: who promotes them takes their unique keys again. A payload that is locked keeps its day.
with known as materialized (
    select id, queue_id, priority from biplane.job where id = any ($1) for key share
), exhausted as (
    delete from biplane.failed f using known k where f.job_id = any ($1) and f.job_id = k.id
    returning f.job_id, k.queue_id, k.priority, f.code, f.error
), ended as (
    delete from biplane.done d using known k
    where d.job_id = any ($1) and d.job_id = k.id and d.outcome in ('c', 'd')
        and d.done_at >= (select biplane.job_created_at(min(id)) from known)
    returning d.job_id, k.queue_id, k.priority, d.code, d.detail
), reborn as (
    insert into biplane.deferred (job_id, run_at, queue_id, attempt, priority, reason, error)
    select job_id, now(), queue_id, 1, priority, 'z', jsonb_build_object('code', code, 'error', error)
    from (select * from exhausted union all select * from ended) g
    returning job_id
), sooner as (
    update biplane.deferred set run_at = now() where job_id = any ($1) and run_at > now() and reason <> 'w'
    returning job_id
), changed as materialized (
    select job_id from reborn union all select job_id from sooner
), unasked as (
    delete from biplane.cancel_ask where job_id in (select job_id from changed)
), noted as (
    update biplane.audit set detail = detail
        || jsonb_build_object('count', (detail ->> 'count')::bigint + (select count(*) from changed))
    where id = $2
)
select array(select job_id from changed), '{}'::bigint[]
