-- What of a job outlives its attempts, and what comes where they are spent.
-- oldest-engine: 1

-- One row a job of which something must be remembered; removed as the job ends.
create table biplane.progress (
    job_id bigint primary key,
    -- The time for which it was scheduled, once that has come.
    run_at timestamptz,
    -- What its steps gave, as JSON text: jsonb takes no NUL in texts. Not null: the job has started.
    kept text check (octet_length(kept) <= 4194304),
    check (run_at is not null or kept is not null)
);

-- The kind that is enqueued where the attempts of a job are spent.
alter table biplane.kind add column exhausted_enqueues text;

-- Enqueues what a kind says, in whichever transaction writes the failure. The failure stands in any case: what
-- keeps the other job out is noted in it.
create function biplane.exhausted() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    other text;
    job record;
    told jsonb;
    reason text;
begin
    select k.exhausted_enqueues into other from biplane.kind k where k.id = new.kind_id;
    if other is null then
        return new;
    end if;
    select j.args, j.priority, j.trace, k.name as kind, q.name as queue,
        coalesce(p.run_at, biplane.job_created_at(j.id)) as run_at
    into job
    from biplane.job j
        join biplane.kind k on k.id = new.kind_id
        join biplane.queue q on q.id = new.queue_id
        left join biplane.progress p on p.job_id = j.id
    where j.id = new.job_id;
    told := jsonb_build_object(
        'args', job.args,
        'job', jsonb_build_object('id', new.job_id::text, 'kind', job.kind, 'queue', job.queue, 'attempt', new.attempt,
            'priority', job.priority,
            'run_at', to_char(job.run_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')),
        'error', jsonb_build_object('code', new.code) || new.error);
    for try in 1 .. 2 loop
        begin
            perform biplane.enqueue(other, told, trace => job.trace);
            return new;
        exception
            -- Args of nearly the largest size have no room for more: without them, the other job has the id.
            when sqlstate 'BP002' then
                reason := sqlerrm;
                told := told || '{"args": null}';
            when sqlstate 'BP001' or sqlstate 'BP003' or sqlstate 'BP004' then
                reason := sqlerrm;
                exit;
        end;
    end loop;
    new.error := new.error || jsonb_build_object('on_exhausted', reason);
    return new;
end
$$;
revoke all on function biplane.exhausted() from public;

create trigger exhausted before insert on biplane.failed for each row execute function biplane.exhausted();
