-- Queues in one order everywhere, so that engines that start at once do not wait for each other.
select biplane.limit_queue(queue_id, global_concurrency, per_key, turns_by::text[], rate)
from (
    select * from unnest($1::integer[], $2::integer[], $3::integer[], $4::text[], $5::double precision[])
        as l (queue_id, global_concurrency, per_key, turns_by, rate)
    order by queue_id
) l
