-- The first due job of each lane and priority that is asked for: which work there is, and since when.
select p.lane, p.priority, h.seq, h.job_id, extract(epoch from now() - biplane.job_created_at(h.job_id))::float8 as age
from unnest($2::smallint[], $3::smallint[], $4::bigint[]) as p (lane, priority, after),
    lateral (
        select seq, job_id from biplane.ready
        where queue_id = $1 and lane = p.lane and priority = p.priority and seq > p.after
        order by seq limit 1
    ) h
