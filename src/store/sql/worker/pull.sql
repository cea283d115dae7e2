-- A worker that pulls, under the name it has.
insert into biplane.worker (id, name, version, pull) values ($1, $2, $3, true)
on conflict (name) where pull do update set heartbeat_at = clock_timestamp(), version = excluded.version
returning id, epoch
