-- What holds up a queue's jobs, whether any lie under keys, and the first due job of each lane and priority that is asked
-- for: which work there is, and since when.
select q.limited, q.turns_by is not null as by_key, q.rate, q.paused_at is not null as paused,
    exists (select from biplane.ready where queue_id = $1 and lane >= 3) as keyed,
    h.lane, h.priority, h.seq, h.job_id, extract(epoch from now() - biplane.job_created_at(h.job_id))::float8 as age
from biplane.queue q
    left join lateral (
        select p.lane, p.priority, r.seq, r.job_id
        from unnest($2::smallint[], $3::smallint[], $4::bigint[]) as p (lane, priority, after),
            lateral (
                select seq, job_id from biplane.ready
                where queue_id = $1 and lane = p.lane and priority = p.priority and seq > p.after
                order by seq limit 1
            ) r
    ) h on true
where q.id = $1
