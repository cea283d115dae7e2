-- Gives failed jobs up; what they failed of stands beside their outcome.
with taken as (
    delete from biplane.failed where job_id = any ($1)
    returning job_id, queue_id, kind_id, attempt, code, error
), changed as materialized (
    select t.*, j.unique_key from taken t left join biplane.job j on j.id = t.job_id
), written as (
    insert into biplane.done (job_id, queue_id, kind_id, duration_ms, attempt, outcome, code, detail)
    select job_id, queue_id, kind_id, 0, attempt, 'd', code, error from changed
), left_states as materialized (
    select job_id, kind_id, unique_key from changed
), forgotten as (
    delete from biplane.progress where job_id in (select job_id from changed)
), over as (
    update biplane.callback set over = true, answer = null where not over and job_id in (select job_id from changed)
), noted as (
    update biplane.audit set detail = detail
        || jsonb_build_object('count', (detail ->> 'count')::bigint + (select count(*) from changed))
    where id = $2
), told as (
    select array(select job_id from changed) as done, '{}'::bigint[] as asked
)
