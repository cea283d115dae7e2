-- Extends one lease. Returns what it still holds, and whether somebody wants that ended; no row: it is gone, or its
-- deadline has passed.
with quiet as materialized (
    select set_config('synchronous_commit', 'off', true) as off
), alive as (
    update biplane.worker set heartbeat_at = clock_timestamp() where epoch = $2 and (select off from quiet) is not null
), extended as (
    update biplane.lease set deadline_at = clock_timestamp() + $3 * interval '1 millisecond'
    where batch_id = $1 and epoch = $2 and deadline_at >= clock_timestamp()
        and exists (select from biplane.worker w where w.epoch = $2 and w.pull)
    returning job_ids
)
select h.job_id, exists (select from biplane.cancel_ask a where a.job_id = h.job_id and a.epoch = $2) as asked
from extended cross join lateral unnest(job_ids) as h (job_id)
