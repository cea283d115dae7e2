delete from biplane.worker w
where heartbeat_at < now() - $1 * interval '1 day' and not exists (select from biplane.lease l where l.epoch = w.epoch)
