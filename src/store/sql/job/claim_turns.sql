-- The same of a queue whose keys take turns.
with chosen as materialized (
    select row_at, key_hash, place from biplane.turn_rows_by_key($5, biplane.open_turn($5, $6), $7)
), picked as materialized (
    select ctid as row_at, key_hash, job_id from biplane.ready
    where ctid = any (array(select row_at from chosen))
    for update skip locked
), weighed as materialized (
    -- The path may have been another when a job was put in.
    select p.row_at, p.key_hash, biplane.turn_key(q.turns_by, j.args) as by_path
    from picked p join biplane.job j on j.id = p.job_id cross join biplane.queue q
    where q.id = $5
), moved as (
    update biplane.ready r set key_hash = (select w.by_path from weighed w where w.row_at = r.ctid)
    where r.ctid = any (array(select row_at from weighed where key_hash <> by_path))
), gone as (
    delete from biplane.ready
    where ctid = any (array(select row_at from weighed where key_hash = by_path))
    returning seq, job_id, attempt, rescues, key_hash
), leased as (
    insert into biplane.lease (batch_id, worker_id, epoch, deadline_at, queue_id, job_ids, attempts, rescues, claimed,
        keys, turn)
    select $1, $2, $3, clock_timestamp() + $4 * interval '1 millisecond', $5, array_agg(job_id order by seq),
        array_agg(attempt order by seq), array_agg(rescues order by seq), array_agg(job_id order by seq),
        array_agg(key_hash order by seq),
        biplane.spend_turn($5, count(*), (
            select c.key_hash from chosen c where c.key_hash in (select key_hash from gone) order by c.place desc limit 1
        ))
    from gone
    having count(*) > 0
)
