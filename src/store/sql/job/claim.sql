-- Takes due jobs of one queue, lane and priority under a new lease, with their payloads. A paused queue gives none, nor
-- does one with limits: its claims wait for each other.
with picked as materialized (
    select ctid from biplane.ready
    where queue_id = $5 and lane = $6 and priority = $7 and seq > $8
        and (select paused_at is null and not limited from biplane.queue where id = $5)
    order by seq
    limit $9
    for update skip locked
), gone as (
    delete from biplane.ready
    where ctid = any (array(select ctid from picked))
    returning seq, job_id, attempt, rescues
), leased as (
    insert into biplane.lease (batch_id, worker_id, epoch, deadline_at, queue_id, job_ids, attempts, rescues)
    select $1, $2, $3, now() + $4 * interval '1 millisecond', $5, array_agg(job_id order by seq),
        array_agg(attempt order by seq), array_agg(rescues order by seq)
    from gone
    having count(*) > 0
)
