-- Takes back what leases past their deadline hold. A rescue spends no attempt, but a job that was rescued three times
-- is claimed alone from then on, and only a death of its own spends one.
with expired as materialized (
    select batch_id from biplane.lease
    where deadline_at < now()
    order by deadline_at
    limit $1
    for update skip locked
), gone as (
    delete from biplane.lease
    where batch_id in (select batch_id from expired) and deadline_at < now()
    returning batch_id, queue_id, job_ids, attempts, rescues
), fates as materialized (
    select g.queue_id, h.job_id, h.rescues, h.place, j.kind_id, j.priority, j.unique_key, j.unique_while,
        h.attempt, h.rescues >= 3 and cardinality(g.job_ids) = 1 as spent,
        h.rescues >= 3 and cardinality(g.job_ids) = 1 and h.attempt >= j.max_attempts as dead
    from gone g
        cross join lateral unnest(g.job_ids, g.attempts, g.rescues) with ordinality as h (job_id, attempt, rescues, place)
        join biplane.job j on j.id = h.job_id
), exhausted as (
    insert into biplane.failed (job_id, queue_id, kind_id, attempt, code, error)
    select job_id, queue_id, kind_id, attempt, 'worker-lost',
        jsonb_build_object('message', 'the worker that ran it alone died or lost its lease', 'rescues', rescues + 1)
    from fates where dead
), later as (
    insert into biplane.deferred (job_id, run_at, queue_id, attempt, priority, reason)
    select job_id, now(), queue_id, attempt, priority, 'z'
    from fates where not dead and unique_while & 4 = 0
), back as (
    insert into biplane.ready (seq, job_id, queue_id, attempt, priority, lane, rescues)
    select nextval('biplane.return_number'), job_id, queue_id, case when spent then attempt + 1 else attempt end, priority,
        case when rescues + 1 >= 3 then 2 else 1 end, least(rescues + 1, 3)
    from (select * from fates where not dead and coalesce(unique_while & 4 <> 0, true) order by job_id) f
), left_states as materialized (
    select job_id, kind_id, unique_key from fates where dead and unique_while & 32 = 0
), told as (
    select (select count(*) from expired) as batches, (select count(*) from fates where not dead) as returned,
        (select count(*) from fates where dead) as failed
)
