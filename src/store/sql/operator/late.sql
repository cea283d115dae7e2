-- Jobs whose workers were asked to end them and did not in time, with the leases that hold them, if any do.
select a.job_id, l.batch_id, l.epoch, j.kind_id, j.unique_key is not null as keyed, a.actor
from biplane.cancel_ask a
    join biplane.job j on j.id = a.job_id
    left join lateral (
        select batch_id, epoch from biplane.lease where job_ids && array[a.job_id] limit 1
    ) l on true
where a.fence_at <= now()
order by a.fence_at
limit $1
