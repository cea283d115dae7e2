-- Notes how far a job says it is, while the lease holds it.
with quiet as materialized (
    select set_config('synchronous_commit', 'off', true) as off
), mine as materialized (
    select batch_id from biplane.lease
    where batch_id = $1 and epoch = $2 and job_ids && array[$3::bigint] and (select off from quiet) is not null
    for update
)
insert into biplane.progress as p (job_id, told, told_at)
select $3, $4::text::jsonb, now() from mine
on conflict (job_id) do update set told = excluded.told, told_at = excluded.told_at
