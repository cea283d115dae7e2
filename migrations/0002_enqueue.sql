-- How jobs come in, from any language and inside the application's own transaction.
-- oldest-engine: 1
--
-- Refusals have SQLSTATEs of their own: BP001 unknown kind, BP002 args too large, BP003 an option out of its range,
-- BP004 a unique key too long. A NUL in JSON is refused by Postgres itself (22P05), what is no JSON as well (22P02).

-- The unique key of a job, or null: the one that is given, or the values of the kind's chosen args.
create function biplane.unique_key_of(given text, paths text[], args jsonb) returns text
language sql immutable parallel safe as $$
    select case
        when given is not null then given
        when paths is not null then
            (select jsonb_agg(args #> path::text[] order by place)::text from unnest(paths) with ordinality as p (path, place))
    end
$$;

-- Puts one job into the queue of its kind and returns its id; where a job with the same unique key holds it, that
-- job's id. Runs as its owner, so that applications need EXECUTE and nothing else.
create function biplane.enqueue(
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
        q.name as queue, q.armed_until
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
    -- What is small is not written out to be measured; what may be compressed is.
    if pg_column_size(enqueue.args) > 1900 and octet_length(enqueue.args::text) > 1048576 then
        raise exception using errcode = 'BP002', message = 'args are larger than 1 MiB',
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
        holder := biplane.take_claim(known.id, key, id, known.unique_seconds);
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
    insert into biplane.ready (seq, job_id, queue_id, attempt, priority, lane, rescues)
    values (id, id, known.queue_id, 1, coalesce(enqueue.priority, known.priority), 0, 0);
    if known.armed_until > clock_timestamp() then
        perform pg_notify('biplane_ready', known.queue);
    end if;
    return id;
end
$$;

-- Takes a unique key for a job unless another holds it. Returns who holds it then.
create function biplane.take_claim(of_kind integer, wanted text, for_job bigint, seconds integer) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    holder bigint;
begin
    loop
        insert into biplane.unique_claim as c (kind_id, key, job_id, held, expires_at)
        values (of_kind, wanted, for_job, true, clock_timestamp() + seconds * interval '1 second')
        on conflict (kind_id, key) do update
            set job_id = excluded.job_id, held = true, expires_at = excluded.expires_at
            where not c.held and c.expires_at <= clock_timestamp()
        returning c.job_id into holder;
        if found then
            return holder;
        end if;
        select c.job_id into holder from biplane.unique_claim c where c.kind_id = of_kind and c.key = wanted;
        if found then
            return holder;
        end if;
        -- It was let go between the two: once more.
    end loop;
end
$$;

-- Puts many jobs of one kind into its queue, in the order of `args`. Returns an id for each, null where a job with the
-- same unique key holds it.
create function biplane.enqueue_many(
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
        k.unique_by, k.unique_while, k.unique_seconds, q.name as queue, q.armed_until
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
    if exists (select from unnest(enqueue_many.args) one
        where pg_column_size(one) > 1900 and octet_length(one::text) > 1048576) then
        raise exception using errcode = 'BP002', message = 'args are larger than 1 MiB',
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
    if enqueue_many.unique_keys is null and known.unique_by is null then
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
            ), firsts as (
                select key, min(id) as id from items where key is not null group by key
            ), claimed as (
                -- Every bulk takes its keys in this order, so that two never wait for each other.
                insert into biplane.unique_claim as c (kind_id, key, job_id, held, expires_at)
                select known.id, firsts.key, firsts.id, true,
                    clock_timestamp() + known.unique_seconds * interval '1 second'
                from firsts order by firsts.key collate "C"
                on conflict (kind_id, key) do update
                    set job_id = excluded.job_id, held = true, expires_at = excluded.expires_at
                    where not c.held and c.expires_at <= clock_timestamp()
                returning c.job_id as id
            ), won as (
                select i.* from items i where i.key is null or i.id in (select claimed.id from claimed)
            ), made as (
                insert into biplane.job (id, kind_id, queue_id, priority, max_attempts, unique_while, unique_seconds,
                    expires_at, args, unique_key, trace)
                select id, known.id, known.queue_id, known.priority, known.max_attempts,
                    case when key is not null then known.unique_while end,
                    case when key is not null then known.unique_seconds end,
                    enqueue_many.expires_at, one, key, enqueue_many.trace
                from won
            ), put as (
                insert into biplane.ready (seq, job_id, queue_id, attempt, priority, lane, rescues)
                select id, id, known.queue_id, 1, known.priority, 0, 0 from won where due
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
    biplane.enqueue(text, jsonb, text, timestamptz, integer, integer, timestamptz, text),
    biplane.enqueue_many(text, jsonb[], text[], timestamptz, integer, integer, timestamptz, text),
    biplane.take_claim(integer, text, bigint, integer)
from public;
