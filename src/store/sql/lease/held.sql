-- Which of these jobs leases hold, with what says what may become of them.
select l.batch_id, l.epoch, h.job_id, h.attempt, h.rescues, j.kind_id, j.max_attempts, j.unique_key is not null as keyed,
    h.attempt > 1 or h.rescues > 0 or p.kept is not null as started,
    extract(epoch from clock_timestamp() - l.claimed_at)::float8 as ran,
    exists (select from biplane.cancel_ask a where a.job_id = h.job_id and a.epoch = l.epoch) as asked
from biplane.lease l
    cross join lateral unnest(l.job_ids, l.attempts, l.rescues) as h (job_id, attempt, rescues)
    join biplane.job j on j.id = h.job_id
    left join biplane.progress p on p.job_id = h.job_id
where batch_id = any ($1) and epoch = $2 and h.job_id = any ($3)
    -- What an engine holds is no worker's to settle.
    and exists (select from biplane.worker w where w.epoch = $2 and w.pull)
