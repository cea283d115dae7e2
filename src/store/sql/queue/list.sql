select q.name, extract(epoch from now() - q.paused_at)::float8 as paused_for, q.paused_by, q.pause_reason,
    (select count(*) from biplane.ready r where r.queue_id = q.id) as queued,
    (select count(*) from biplane.deferred d where d.queue_id = q.id) as deferred,
    (select coalesce(sum(cardinality(l.job_ids)), 0)::bigint from biplane.lease l where l.queue_id = q.id) as running,
    (select count(*) from biplane.failed f where f.queue_id = q.id) as failed
from biplane.queue q order by q.name
