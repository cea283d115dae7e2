-- Says that a worker lives and extends the leases it names. Returns those that it still holds, and the jobs that
-- it is asked to end. Nothing is lost with a heartbeat that a crash of the server takes back, so none waits for the disk;
-- and a worker that stands still before it commits keeps its leases from nobody for long.
with quiet as materialized (
    select set_config('synchronous_commit', 'off', true) as off,
        set_config('idle_in_transaction_session_timeout', '5s', true) as idle
), alive as (
    update biplane.worker set heartbeat_at = clock_timestamp() where id = $1 and (select off from quiet) is not null
), extended as (
    update biplane.lease set deadline_at = clock_timestamp() + $4 * interval '1 millisecond'
    where batch_id = any ($3) and epoch = $2 and deadline_at >= clock_timestamp()
    returning batch_id
)
select batch_id, null::bigint as asked from extended
union all
select null, job_id from biplane.cancel_ask where epoch = $2
