-- Groups of jobs: when the last of them has ended, one more is enqueued.
-- oldest-engine: 1

create table biplane.job_group (
    id bigint primary key default biplane.new_job_id(),
    made_at timestamptz not null default now(),
    -- Members that have not ended.
    members integer not null check (members >= 0),
    then_kind text not null,
    then_args jsonb not null,
    trace text,
    -- Why the job that comes then was refused; such a group stays.
    refused text,
    check ((members = 0) = (refused is not null))
);

create table biplane.group_member (
    job_id bigint primary key,
    group_id bigint not null references biplane.job_group on delete cascade
);
create index group_member_group on biplane.group_member (group_id);

-- Counts members that end, in whichever transaction ends them. A failed job has not ended: an operator lets it run
-- again or discards it.
create function biplane.members_ended() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    fewer record;
    finished record;
begin
    -- While there are no groups, jobs end without paying for them.
    if not exists (select from biplane.group_member) then
        return null;
    end if;
    for fewer in
        with gone as (
            delete from biplane.group_member m using ended e where m.job_id = e.job_id returning m.group_id
        )
        -- In one order, so that nobody waits for each other.
        select group_id, count(*) as jobs from gone group by group_id order by group_id
    loop
        select g.* into finished from biplane.job_group g where g.id = fewer.group_id for update;
        if finished.members > fewer.jobs then
            update biplane.job_group g set members = g.members - fewer.jobs where g.id = fewer.group_id;
            continue;
        end if;
        begin
            perform biplane.enqueue(finished.then_kind, finished.then_args, trace => finished.trace);
            delete from biplane.job_group g where g.id = fewer.group_id;
        exception when sqlstate 'BP001' or sqlstate 'BP002' or sqlstate 'BP003' or sqlstate 'BP004' then
            update biplane.job_group g set members = 0, refused = sqlerrm where g.id = fewer.group_id;
        end;
    end loop;
    return null;
end
$$;

create trigger members_ended after insert on biplane.done referencing new table as ended
    for each statement execute function biplane.members_ended();

-- Puts many jobs of one kind into its queue, as `enqueue_many` does, and one of `then_kind` once the last of them has
-- ended; at once where none is put in. A job that holds the unique key of another is no member.
create function biplane.enqueue_group(
    kind text,
    args jsonb[],
    then_kind text,
    then_args jsonb default '{}',
    unique_keys text[] default null,
    run_at timestamptz default null,
    priority integer default null,
    max_attempts integer default null,
    expires_at timestamptz default null,
    trace text default null
) returns table (place bigint, job_id bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    made bigint;
    places bigint[];
    ids bigint[];
begin
    if not exists (select from biplane.kind k where k.name = enqueue_group.then_kind and k.retired_at is null) then
        raise exception using errcode = 'BP001',
            message = format('no engine knows jobs of kind %L', enqueue_group.then_kind),
            hint = 'Kinds are the [jobs.NAME] of a config root; an engine that runs it makes them known.';
    end if;
    if enqueue_group.then_args is null then
        raise exception using errcode = 'BP003', message = 'then_args must not be null';
    end if;
    select array_agg(m.place order by m.place), array_agg(m.job_id order by m.place) into places, ids
    from biplane.enqueue_many(enqueue_group.kind, enqueue_group.args, enqueue_group.unique_keys, enqueue_group.run_at,
        enqueue_group.priority, enqueue_group.max_attempts, enqueue_group.expires_at, enqueue_group.trace) m;
    if array_remove(ids, null) <> '{}' then
        insert into biplane.job_group (members, then_kind, then_args, trace)
        values (cardinality(array_remove(ids, null)), enqueue_group.then_kind, enqueue_group.then_args,
            enqueue_group.trace)
        returning id into made;
        insert into biplane.group_member (job_id, group_id) select id, made from unnest(array_remove(ids, null)) id;
    else
        perform biplane.enqueue(enqueue_group.then_kind, enqueue_group.then_args, trace => enqueue_group.trace);
    end if;
    return query select * from unnest(places, ids);
end
$$;

revoke all on function biplane.members_ended(),
    biplane.enqueue_group(text, jsonb[], text, jsonb, text[], timestamptz, integer, integer, timestamptz, text)
from public;
