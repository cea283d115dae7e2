with done as (
    update biplane.queue set paused_at = now(), paused_by = $2, pause_reason = $3
    where name = $1 and paused_at is null
    returning id
), noted as (
    insert into biplane.audit (actor, action, subject, detail)
    select $2, 'queues.pause', jsonb_build_object('queue', $1), jsonb_build_object('reason', $3::text) from done
)
select exists (select from done) as changed, exists (select from biplane.queue where name = $1) as known
