-- What steps have enqueued, so that a record or a job that is run again enqueues nothing a second time.
-- oldest-engine: 1

create table biplane.enqueued (
    -- Which step: of a stage, with topic and partition, or of a job.
    source bigint not null,
    -- The record's offset, or the job's id.
    place bigint not null,
    -- Which part of the record, and which of several records that lay at one place.
    part bigint not null,
    made_at timestamptz not null default now(),
    job_ids bigint[] not null,
    primary key (source, place, part)
);
create index enqueued_made on biplane.enqueued (made_at);

-- Puts jobs of one kind into its queue, unless that was done for the same place before. Returns the id of each, in the
-- order of `args`, and whether it is a new one; where another job holds the unique key, that job's id. With `then_kind`
-- they are a group.
create function biplane.enqueue_once(
    source bigint,
    place bigint,
    part bigint,
    kind text,
    args jsonb[],
    unique_keys text[] default null,
    run_at timestamptz default null,
    delay_ms bigint default null,
    expires_ms bigint default null,
    priority integer default null,
    max_attempts integer default null,
    trace text default null,
    then_kind text default null,
    then_args jsonb default null
) returns table (nth bigint, job_id bigint, is_new boolean)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    due timestamptz := coalesce(run_at, clock_timestamp() + delay_ms * interval '1 millisecond');
    ends timestamptz := greatest(due, clock_timestamp()) + expires_ms * interval '1 millisecond';
    before bigint[];
    made bigint[];
    ids bigint[];
begin
    loop
        insert into biplane.enqueued as e (source, place, part, job_ids)
        values (enqueue_once.source, enqueue_once.place, enqueue_once.part, '{}') on conflict do nothing;
        exit when found;
        select e.job_ids into before from biplane.enqueued e
        where e.source = enqueue_once.source and e.place = enqueue_once.place and e.part = enqueue_once.part;
        if found then
            return query select b.nth, b.id, false from unnest(before) with ordinality as b (id, nth);
            return;
        end if;
        -- It was forgotten between the two: once more.
    end loop;
    if then_kind is null then
        select array_agg(m.job_id order by m.place) into made
        from biplane.enqueue_many(enqueue_once.kind, enqueue_once.args, enqueue_once.unique_keys, due,
            enqueue_once.priority, enqueue_once.max_attempts, ends, enqueue_once.trace) m;
    else
        select array_agg(m.job_id order by m.place) into made
        from biplane.enqueue_group(enqueue_once.kind, enqueue_once.args, enqueue_once.then_kind, enqueue_once.then_args,
            enqueue_once.unique_keys, due, enqueue_once.priority, enqueue_once.max_attempts, ends, enqueue_once.trace) m;
    end if;
    ids := made;
    if array_position(made, null) is not null then
        select array_agg(coalesce(m.id, c.job_id) order by m.nth) into ids
        from unnest(made) with ordinality as m (id, nth)
            join biplane.kind k on k.name = enqueue_once.kind
            left join biplane.unique_claim c on m.id is null and c.kind_id = k.id
                and c.key = biplane.unique_key_of(enqueue_once.unique_keys[m.nth], k.unique_by, enqueue_once.args[m.nth]);
    end if;
    update biplane.enqueued e set job_ids = coalesce(ids, '{}')
    where e.source = enqueue_once.source and e.place = enqueue_once.place and e.part = enqueue_once.part;
    return query
        select i.nth, i.id, made[i.nth] is not null from unnest(ids) with ordinality as i (id, nth);
end
$$;

revoke all on function
    biplane.enqueue_once(bigint, bigint, bigint, text, jsonb[], text[], timestamptz, bigint, bigint, integer, integer,
        text, text, jsonb)
from public;
