-- Moves what is due into the lane of what comes back. A job that finds its unique key held by another ends here.
with due as materialized (
    select job_id from biplane.deferred
    where run_at <= now() and ($2::bigint is null or job_id = $2)
    order by run_at
    limit $1
    for update skip locked
), gone as (
    delete from biplane.deferred
    where job_id in (select job_id from due)
    returning job_id, run_at, queue_id, attempt, priority, reason
), known as materialized (
    select g.*, j.kind_id, j.unique_key, j.unique_while, j.unique_seconds, q.turns_by is not null as keyed,
        case when q.turns_by is not null then biplane.turn_key(q.turns_by, j.args) end as key_hash
    from gone g join biplane.job j on j.id = g.job_id join biplane.queue q on q.id = g.queue_id
), taken as (
    insert into biplane.unique_claim as c (kind_id, key, job_id, held, expires_at)
    select kind_id, unique_key, job_id, true, now() + unique_seconds * interval '1 second'
    from known where unique_while & 2 <> 0
    order by kind_id, unique_key collate "C"
    on conflict (kind_id, key) do update set job_id = excluded.job_id, held = true
        where c.job_id = excluded.job_id or (not c.held and c.expires_at <= now())
    returning job_id
), superseded as (
    insert into biplane.done (job_id, queue_id, kind_id, duration_ms, attempt, outcome, code)
    select job_id, queue_id, kind_id, 0, attempt, 'c', 'superseded'
    from known where unique_while & 2 <> 0 and job_id not in (select job_id from taken)
    returning job_id
), forgotten as (
    delete from biplane.progress where job_id in (select job_id from superseded)
), remembered as (
    -- Nothing else says for when it was scheduled, once it is there no more.
    insert into biplane.progress as p (job_id, run_at)
    select job_id, run_at from known where reason = 's' and job_id not in (select job_id from superseded)
    on conflict (job_id) do update set run_at = excluded.run_at
), back as (
    insert into biplane.ready (seq, job_id, queue_id, attempt, priority, lane, rescues, key_hash)
    select nextval('biplane.return_number'), job_id, queue_id, attempt, priority, case when keyed then 4 else 1 end, 0,
        key_hash
    from (select * from known order by run_at) k
    where job_id not in (select job_id from superseded)
    returning queue_id
), woken as materialized (
    select distinct q.name from back b join biplane.queue q on q.id = b.queue_id where q.armed_until > now()
)
select (select count(*) from due) as due, (select count(*) from superseded) as superseded,
    (select count(pg_notify('biplane_ready', name)) from woken) as woken
