select w.id, w.name, w.version, extract(epoch from now() - w.started_at)::float8 as up,
    extract(epoch from now() - w.heartbeat_at)::float8 as silent,
    (select count(*) from biplane.lease l where l.epoch = w.epoch) as batches,
    (select coalesce(sum(cardinality(l.job_ids)), 0)::bigint from biplane.lease l where l.epoch = w.epoch) as jobs, w.pull
from biplane.worker w
where w.heartbeat_at > now() - interval '10 minutes' or exists (select from biplane.lease l where l.epoch = w.epoch)
order by w.started_at
