-- What a batch still holds: settles a claim whose answer was lost. The lease runs anew from here.
with mine as materialized (
    update biplane.lease set deadline_at = now() + $3 * interval '1 millisecond'
    where batch_id = $1 and epoch = $2
    returning job_ids, attempts, rescues
)
select place as seq, h.job_id, h.attempt, h.rescues, j.kind_id, j.max_attempts, j.args::text,
    j.unique_key is not null as keyed, j.trace, coalesce(j.expires_at <= now(), false) as expired,
    j.priority
from mine m
    cross join lateral unnest(m.job_ids, m.attempts, m.rescues) with ordinality as h (job_id, attempt, rescues, place)
    join biplane.job j on j.id = h.job_id
order by place
