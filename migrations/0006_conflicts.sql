-- What becomes of a waiting job whose unique key is wanted again, and how large the args of a kind may be.
-- oldest-engine: 1

alter table biplane.kind
    add column on_conflict text not null default 'keep' check (on_conflict in ('keep', 'replace-args', 'push-back')),
    add column max_args_bytes integer not null default 1048576 check (max_args_bytes between 1 and 1048576);

-- Whether args are longer than this as text. What is small is not written out to be measured: no text is more than
-- eight times as long as what it is kept as, unless that is compressed.
create function biplane.too_large(args jsonb, most integer) returns boolean
language sql immutable parallel safe as $$
    select (pg_column_size(args) > 1900 or pg_column_size(args) * 8 > most) and octet_length(args::text) > most
$$;

-- Gives a job that waits to run other args, or makes it due at another time. False: it does not wait. What waits is
-- locked before any key, as claims and promotions do it, so that nobody waits for each other.
create function biplane.change_waiting(holder bigint, conflict text, other jsonb, due timestamptz) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    place tid;
begin
    -- What is due later moves on to what is due, so it is looked for in this order.
    perform from biplane.deferred d where d.job_id = holder for update;
    if found then
        if conflict = 'push-back' then
            -- A retry waits at least as long as its policy says.
            update biplane.deferred d
            set run_at = case d.reason when 'r' then greatest(d.run_at, due) else due end
            where d.job_id = holder;
        else
            update biplane.job j set args = other where j.id = holder;
        end if;
        return true;
    end if;
    select r.ctid into place from biplane.ready r
    where r.queue_id = (select j.queue_id from biplane.job j where j.id = holder) and r.lane = 0 and r.priority = any ('{1,2,3,4,5,6,7,8,9}') and r.seq = holder
    for update;
    if not found then
        select r.ctid into place from biplane.ready r where r.job_id = holder and r.lane > 0 for update;
        if not found then
            return false;
        end if;
    end if;
    if conflict = 'replace-args' then
        update biplane.job j set args = other where j.id = holder;
        -- A claim that began before this one committed has the old args: it passes over a row that is new to it.
        update biplane.ready r set key_hash = case when r.key_hash is not null then biplane.turn_key(q.turns_by, other) end
        from biplane.queue q where q.id = r.queue_id and r.ctid = place;
    elsif due > clock_timestamp() then
        with gone as (
            delete from biplane.ready r where r.ctid = place returning r.job_id, r.queue_id, r.attempt, r.priority
        )
        insert into biplane.deferred (job_id, run_at, queue_id, attempt, priority, reason)
        select g.job_id, due, g.queue_id, g.attempt, g.priority, case when g.attempt = 1 then 's' else 'z' end::"char"
        from gone g;
    end if;
    return true;
end
$$;

-- Takes a unique key for a job unless another holds it; one that waits to run is changed then. Returns who holds it.
-- Unlike `take_claim` it locks no key that another holds: see `change_waiting`.
create function biplane.take_or_change(
    of_kind integer, wanted text, for_job bigint, seconds integer, conflict text, args jsonb, due timestamptz
) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    known record;
    seen bigint;
begin
    loop
        insert into biplane.unique_claim (kind_id, key, job_id, held, expires_at)
        values (of_kind, wanted, for_job, true, clock_timestamp() + seconds * interval '1 second')
        on conflict do nothing;
        if found then
            return for_job;
        end if;
        update biplane.unique_claim c
        set job_id = for_job, held = true, expires_at = clock_timestamp() + seconds * interval '1 second'
        where c.kind_id = of_kind and c.key = wanted and not c.held and c.expires_at <= clock_timestamp();
        if found then
            return for_job;
        end if;
        select c.job_id, c.held into known from biplane.unique_claim c where c.kind_id = of_kind and c.key = wanted;
        -- One that was met twice and did not wait either time runs, or is over for the rest of its period.
        if found and (not known.held or known.job_id = seen
            or biplane.change_waiting(known.job_id, conflict, args, due)) then
            return known.job_id;
        end if;
        seen := known.job_id;
    end loop;
end
$$;

-- Puts one job into the queue of its kind and returns its id; where a job with the same unique key holds it, that
-- job's id, after it was changed as the kind says. Runs as its owner, so that applications need EXECUTE and nothing else.
create or replace function biplane.enqueue(
    kind text,
    args jsonb default '{}',
    unique_key text default null,
    run_at timestamptz default null,
    priority integer default null,
    max_attempts integer default null,
    expires_at timestamptz default null,
    trace text default null
) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    known record;
    key text;
    id bigint;
    holder bigint;
begin
    select k.id, k.queue_id, k.priority, k.max_attempts, k.unique_by, k.unique_while, k.unique_seconds,
        k.on_conflict, k.max_args_bytes, q.name as queue, q.armed_until, q.turns_by
    into known
    from biplane.kind k join biplane.queue q on q.id = k.queue_id
    where k.name = enqueue.kind and k.retired_at is null;
    if not found then
        raise exception using errcode = 'BP001', message = format('no engine knows jobs of kind %L', enqueue.kind),
            hint = 'Kinds are the [jobs.NAME] of a config root; an engine that runs it makes them known.';
    end if;
    if enqueue.args is null then
        raise exception using errcode = 'BP003', message = 'args must not be null';
    end if;
    if biplane.too_large(enqueue.args, known.max_args_bytes) then
        raise exception using errcode = 'BP002',
            message = format('args are larger than the %s bytes that a job of kind %L takes', known.max_args_bytes, enqueue.kind),
            hint = 'Store what is large elsewhere and name it in the args.';
    end if;
    if enqueue.priority not between 1 and 9 then
        raise exception using errcode = 'BP003', message = 'priority is a number from 1, which goes first, to 9';
    end if;
    if enqueue.max_attempts not between 1 and 1000 then
        raise exception using errcode = 'BP003', message = 'max_attempts is a number from 1 to 1000';
    end if;
    id := biplane.new_job_id();
    if enqueue.unique_key is not null or known.unique_by is not null then
        key := biplane.unique_key_of(enqueue.unique_key, known.unique_by, enqueue.args);
        if octet_length(key) > 1024 then
            raise exception using errcode = 'BP004', message = 'a unique key has at most 1024 bytes';
        end if;
        if known.on_conflict = 'keep' then
            holder := biplane.take_claim(known.id, key, id, known.unique_seconds);
        else
            holder := biplane.take_or_change(known.id, key, id, known.unique_seconds, known.on_conflict, enqueue.args,
                coalesce(enqueue.run_at, clock_timestamp()));
        end if;
        if holder <> id then
            return holder;
        end if;
    end if;
    insert into biplane.job (id, kind_id, queue_id, priority, max_attempts, unique_while, unique_seconds, expires_at,
        args, unique_key, trace)
    values (id, known.id, known.queue_id, coalesce(enqueue.priority, known.priority),
        coalesce(enqueue.max_attempts, known.max_attempts), case when key is not null then known.unique_while end,
        case when key is not null then known.unique_seconds end, enqueue.expires_at, enqueue.args, key, enqueue.trace);
    if enqueue.run_at > clock_timestamp() then
        insert into biplane.deferred (job_id, run_at, queue_id, attempt, priority, reason)
        values (id, enqueue.run_at, known.queue_id, 1, coalesce(enqueue.priority, known.priority), 's');
        return id;
    end if;
    insert into biplane.ready (seq, job_id, queue_id, attempt, priority, lane, rescues, key_hash)
    values (id, id, known.queue_id, 1, coalesce(enqueue.priority, known.priority),
        case when known.turns_by is null then 0 else 3 end, 0,
        case when known.turns_by is not null then biplane.turn_key(known.turns_by, enqueue.args) end);
    if known.armed_until > clock_timestamp() then
        perform pg_notify('biplane_ready', known.queue);
    end if;
    return id;
end
$$;

-- Puts many jobs of one kind into its queue, in the order of `args`. Returns an id for each, null where a job with the
-- same unique key holds it, which was changed as the kind says.
create or replace function biplane.enqueue_many(
    kind text,
    args jsonb[],
    unique_keys text[] default null,
    run_at timestamptz default null,
    priority integer default null,
    max_attempts integer default null,
    expires_at timestamptz default null,
    trace text default null
) returns table (place bigint, job_id bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    known record;
    due boolean := coalesce(run_at <= clock_timestamp(), true);
begin
    select k.id, k.queue_id, coalesce(enqueue_many.priority, k.priority)::smallint as priority,
        coalesce(enqueue_many.max_attempts, k.max_attempts)::smallint as max_attempts,
        k.unique_by, k.unique_while, k.unique_seconds, k.on_conflict, k.max_args_bytes, q.name as queue, q.armed_until,
        q.turns_by
    into known
    from biplane.kind k join biplane.queue q on q.id = k.queue_id
    where k.name = enqueue_many.kind and k.retired_at is null;
    if not found then
        raise exception using errcode = 'BP001', message = format('no engine knows jobs of kind %L', enqueue_many.kind),
            hint = 'Kinds are the [jobs.NAME] of a config root; an engine that runs it makes them known.';
    end if;
    if array_position(enqueue_many.args, null) is not null then
        raise exception using errcode = 'BP003', message = 'args must not be null';
    end if;
    if exists (select from unnest(enqueue_many.args) one where biplane.too_large(one, known.max_args_bytes)) then
        raise exception using errcode = 'BP002',
            message = format('args are larger than the %s bytes that a job of kind %L takes', known.max_args_bytes,
                enqueue_many.kind),
            hint = 'Store what is large elsewhere and name it in the args.';
    end if;
    if known.priority not between 1 and 9 then
        raise exception using errcode = 'BP003', message = 'priority is a number from 1, which goes first, to 9';
    end if;
    if known.max_attempts not between 1 and 1000 then
        raise exception using errcode = 'BP003', message = 'max_attempts is a number from 1 to 1000';
    end if;
    if enqueue_many.unique_keys is not null and cardinality(enqueue_many.unique_keys) <> cardinality(enqueue_many.args) then
        raise exception using errcode = 'BP003', message = 'unique_keys are as many as args';
    end if;
    if enqueue_many.unique_keys is null and known.unique_by is null and known.turns_by is null then
        return query
            with made as (
                insert into biplane.job as j (kind_id, queue_id, priority, max_attempts, expires_at, args, trace)
                select known.id, known.queue_id, known.priority, known.max_attempts, enqueue_many.expires_at, one,
                    enqueue_many.trace
                from unnest(enqueue_many.args) with ordinality as a (one, nth) order by nth
                returning j.id
            ), put as (
                insert into biplane.ready (seq, job_id, queue_id, attempt, priority, lane, rescues)
                select id, id, known.queue_id, 1, known.priority, 0, 0 from made where due
            ), later as (
                insert into biplane.deferred as d (job_id, run_at, queue_id, attempt, priority, reason)
                select id, enqueue_many.run_at, known.queue_id, 1, known.priority, 's' from made where not due
            )
            select row_number() over (), id from made;
    else
        return query
            with items as materialized (
                select nth, one, biplane.new_job_id() as id,
                    biplane.unique_key_of(enqueue_many.unique_keys[nth], known.unique_by, one) as key
                from unnest(enqueue_many.args) with ordinality as a (one, nth)
            ), firsts as materialized (
                select key, min(id) as id, (array_agg(one order by nth desc))[1] as last
                from items where key is not null group by key
            ), taken as (
                -- Every bulk takes its keys in this order, so that two never wait for each other.
                insert into biplane.unique_claim as c (kind_id, key, job_id, held, expires_at)
                select known.id, firsts.key, firsts.id, true,
                    clock_timestamp() + known.unique_seconds * interval '1 second'
                from firsts where known.on_conflict = 'keep' order by firsts.key collate "C"
                on conflict (kind_id, key) do update
                    set job_id = excluded.job_id, held = true, expires_at = excluded.expires_at
                    where not c.held and c.expires_at <= clock_timestamp()
                returning c.job_id as id
            ), met as materialized (
                select biplane.take_or_change(known.id, f.key, f.id, known.unique_seconds, known.on_conflict, f.last,
                    coalesce(enqueue_many.run_at, clock_timestamp())) as id
                from (select * from firsts where known.on_conflict <> 'keep' order by firsts.key collate "C") f
            ), won as (
                -- Of those that are the same in one bulk the last one's args count where args are replaced.
                select i.nth, i.id, i.key, case when known.on_conflict = 'replace-args' then coalesce(f.last, i.one)
                    else i.one end as one
                from items i left join firsts f on f.id = i.id
                where i.key is null or i.id in (select taken.id from taken union all select met.id from met)
            ), made as (
                insert into biplane.job (id, kind_id, queue_id, priority, max_attempts, unique_while, unique_seconds,
                    expires_at, args, unique_key, trace)
                select id, known.id, known.queue_id, known.priority, known.max_attempts,
                    case when key is not null then known.unique_while end,
                    case when key is not null then known.unique_seconds end,
                    enqueue_many.expires_at, one, key, enqueue_many.trace
                from won
            ), put as (
                insert into biplane.ready (seq, job_id, queue_id, attempt, priority, lane, rescues, key_hash)
                select id, id, known.queue_id, 1, known.priority, case when known.turns_by is null then 0 else 3 end, 0,
                    case when known.turns_by is not null then biplane.turn_key(known.turns_by, one) end
                from won where due
            ), later as (
                insert into biplane.deferred as d (job_id, run_at, queue_id, attempt, priority, reason)
                select id, enqueue_many.run_at, known.queue_id, 1, known.priority, 's' from won where not due
            )
            select items.nth, won.id from items left join won on won.nth = items.nth order by items.nth;
    end if;
    if due and known.armed_until > clock_timestamp() then
        perform pg_notify('biplane_ready', known.queue);
    end if;
end
$$;

revoke all on function
    biplane.change_waiting(bigint, text, jsonb, timestamptz),
    biplane.take_or_change(integer, text, bigint, integer, text, jsonb, timestamptz)
from public;
