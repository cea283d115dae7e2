-- Gives failed jobs up; what they failed of stands beside their outcome.
with taken as (
    delete from biplane.failed where job_id = any ($1)
    returning job_id, queue_id, kind_id, attempt, code, error
), changed as materialized (
    select t.*, j.unique_key from taken t left join biplane.job j on j.id = t.job_id
), written as (
    insert into biplane.done (job_id, queue_id, kind_id, duration_ms, attempt, outcome, code, detail)
    select job_id, queue_id, kind_id, 0, attempt, 'd', code, error from changed
), locked as materialized (
    -- In the order in which keys are taken, so that nobody waits for each other.
    select c.kind_id, c.key, c.expires_at is null as bare
    from biplane.unique_claim c
        join changed f on c.kind_id = f.kind_id and c.key = f.unique_key and c.job_id = f.job_id
    order by c.kind_id, c.key collate "C"
    for update of c
), held_on as (
    update biplane.unique_claim c set held = false
    from locked l where c.kind_id = l.kind_id and c.key = l.key and not l.bare
), let_go as (
    delete from biplane.unique_claim c
    using locked l where c.kind_id = l.kind_id and c.key = l.key and l.bare
), forgotten as (
    delete from biplane.progress where job_id in (select job_id from changed)
), over as (
    update biplane.callback set over = true, answer = null where not over and job_id in (select job_id from changed)
), noted as (
    update biplane.audit set detail = detail
        || jsonb_build_object('count', (detail ->> 'count')::bigint + (select count(*) from changed))
    where id = $2
)
select array(select job_id from changed), '{}'::bigint[]
