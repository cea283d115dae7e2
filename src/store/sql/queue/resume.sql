with done as (
    update biplane.queue set paused_at = null, paused_by = null, pause_reason = null
    where name = $1 and paused_at is not null
    returning id
), noted as (
    insert into biplane.audit (actor, action, subject)
    select $2, 'queues.resume', jsonb_build_object('queue', $1) from done
)
select exists (select from done) as changed, exists (select from biplane.queue where name = $1) as known
