-- Jobs that ended or were given up within the last $1 seconds.
with ended as (
    select job_id, case outcome when 's' then 'succeeded' when 'c' then 'cancelled' else 'discarded' end as state,
        queue_id, kind_id, attempt, code, done_at as at, duration_ms
    from biplane.done where done_at > now() - $1::bigint * interval '1 second'
    union all
    select job_id, 'failed', queue_id, kind_id, attempt, code, failed_at, null
    from biplane.failed where failed_at > now() - $1::bigint * interval '1 second'
)
select e.job_id, e.state, q.name, k.name, e.attempt, e.code, e.duration_ms,
    to_char(e.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as at
from ended e join biplane.queue q on q.id = e.queue_id join biplane.kind k on k.id = e.kind_id
where ($2::text is null or q.name = $2) and ($3::text is null or k.name = $3) and ($4::text is null or e.state = $4)
order by e.at
limit 10000
