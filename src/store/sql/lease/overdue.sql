-- Jobs that pull workers have held for longer than an attempt of their kind may take; as `held.sql` gives them.
select l.batch_id, l.epoch, h.job_id, h.attempt, h.rescues, j.kind_id, j.max_attempts, j.unique_key is not null as keyed,
    true as started, extract(epoch from clock_timestamp() - l.claimed_at)::float8 as ran,
    exists (select from biplane.cancel_ask a where a.job_id = h.job_id and a.epoch = l.epoch) as asked
from biplane.lease l
    join biplane.worker w on w.epoch = l.epoch and w.pull
    cross join lateral unnest(l.job_ids, l.attempts, l.rescues) as h (job_id, attempt, rescues)
    join biplane.job j on j.id = h.job_id
    join unnest($1::integer[], $2::bigint[]) as k (kind_id, millis) on k.kind_id = j.kind_id
where l.claimed_at < clock_timestamp() - (select min(millis) from unnest($2::bigint[]) m (millis)) * interval '1 millisecond'
    and l.claimed_at < clock_timestamp() - k.millis * interval '1 millisecond'
order by l.claimed_at, l.batch_id
limit $3
