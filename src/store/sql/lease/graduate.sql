-- Gives one job of a batch a lease of its own, so that it is renewed, cancelled and rescued alone.
with mine as materialized (
    select batch_id, worker_id, epoch, queue_id, job_ids, attempts, rescues, turn, claimed, keys from biplane.lease
    where batch_id = $1 and epoch = $2
    for update
), held as materialized (
    select h.job_id, h.attempt, h.rescues, h.place from mine m
        cross join lateral unnest(m.job_ids, m.attempts, m.rescues) with ordinality as h (job_id, attempt, rescues, place)
), taken as materialized (
    select * from held where job_id = $3
), rest as materialized (
    select array_agg(job_id order by place) as job_ids, array_agg(attempt order by place) as attempts,
        array_agg(rescues order by place) as rescues
    from held where job_id <> $3
    having count(*) > 0
), kept as (
    update biplane.lease l set job_ids = r.job_ids, attempts = r.attempts, rescues = r.rescues
    from rest r
    where l.batch_id = $1 and exists (select from taken)
), gone as (
    delete from biplane.lease l using mine m
    where l.batch_id = m.batch_id and exists (select from taken) and not exists (select from rest)
)
insert into biplane.lease (batch_id, worker_id, epoch, deadline_at, queue_id, job_ids, attempts, rescues, turn, claimed,
    keys)
select $4, m.worker_id, m.epoch, now() + $5 * interval '1 millisecond', m.queue_id, array[t.job_id], array[t.attempt],
    array[t.rescues], m.turn, m.claimed, m.keys
from mine m, taken t
