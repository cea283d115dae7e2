-- Gives jobs that wait another priority. Their payloads bear it, too, so that it stays when they come back.
with known as materialized (
    select id, queue_id, priority from biplane.job where id = any ($1)
), fresh as (
    update biplane.ready r set priority = $3 from known k
    where r.queue_id = k.queue_id and r.lane = 0 and r.priority = k.priority and r.seq = k.id
    returning r.job_id
), back as (
    update biplane.ready set priority = $3 where lane > 0 and job_id = any ($1) returning job_id
), later as (
    update biplane.deferred set priority = $3 where job_id = any ($1) returning job_id
), changed as materialized (
    select job_id from fresh union all select job_id from back union all select job_id from later
), borne as (
    update biplane.job set priority = $3 where id = any (array(select job_id from changed))
), noted as (
    update biplane.audit set detail = detail
        || jsonb_build_object('count', (detail ->> 'count')::bigint + (select count(*) from changed))
    where id = $2
)
select array(select job_id from changed), '{}'::bigint[]
