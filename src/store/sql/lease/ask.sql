-- What a batch still holds: settles a claim whose answer was lost. The lease runs anew from here.
with mine as materialized (
    update biplane.lease set deadline_at = now() + $3 * interval '1 millisecond'
    where batch_id = $1 and epoch = $2
    returning job_ids, attempts, rescues
)
select place as seq, h.job_id, h.attempt, h.rescues, j.kind_id, j.max_attempts, j.args::text,
    j.unique_key is not null as keyed, j.trace, not s.started and coalesce(j.expires_at <= now(), false) as expired,
    j.priority, p.job_id is not null as remembered, s.started, (extract(epoch from s.run_at) * 1000)::bigint as run_at,
    extract(epoch from now() - s.run_at)::float8 as due_for
from mine m
    cross join lateral unnest(m.job_ids, m.attempts, m.rescues) with ordinality as h (job_id, attempt, rescues, place)
    join biplane.job j on j.id = h.job_id
    left join biplane.progress p on p.job_id = h.job_id
    cross join lateral (
        select h.attempt > 1 or h.rescues > 0 or p.kept is not null as started,
            coalesce(p.run_at, biplane.job_created_at(h.job_id)) as run_at
    ) s
order by place
