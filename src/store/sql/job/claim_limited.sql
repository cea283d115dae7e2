-- The same of a queue with limits: as many as these let start.
with picked as materialized (
    select ctid from biplane.ready
    where ctid = any (array(select row_at from biplane.turn_rows($5, $6, $7, $8, biplane.open_turn($5, $9))))
    for update skip locked
), gone as (
    delete from biplane.ready
    where ctid = any (array(select ctid from picked))
    returning seq, job_id, attempt, rescues
), leased as (
    insert into biplane.lease (batch_id, worker_id, epoch, deadline_at, queue_id, job_ids, attempts, rescues, turn)
    select $1, $2, $3, clock_timestamp() + $4 * interval '1 millisecond', $5, array_agg(job_id order by seq),
        array_agg(attempt order by seq), array_agg(rescues order by seq), biplane.spend_turn($5, count(*), null)
    from gone
    having count(*) > 0
)
