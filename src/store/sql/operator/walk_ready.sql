-- The next jobs of one queue behind a place in the order in which they come up, and which of them are meant.
-- $1 queue, $2 to $4 place, $5 how many, $6 kinds, $7 key, $8 args, $9 seconds.
with page as materialized (
    select job_id, lane, priority, seq from biplane.ready
    where queue_id = $1 and (lane, priority, seq) > ($2::smallint, $3::smallint, $4::bigint)
    order by lane, priority, seq
    limit $5
)
select p.job_id, p.lane, p.priority, p.seq,
    ($6::integer[] is null or j.kind_id = any ($6)) and ($7::text is null or coalesce(j.unique_key = $7, false))
        and ($8::text is null or j.args @> $8::text::jsonb)
        and ($9::bigint is null or p.job_id >= biplane.first_job_id(now() - $9 * interval '1 second')) as meant
from page p join biplane.job j on j.id = p.job_id
order by p.lane, p.priority, p.seq
