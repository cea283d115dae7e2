-- Limits that all engines keep together, and turns between the keys of a queue.
-- oldest-engine: 1
--
-- Limits count leases, so that nothing leaks: whatever takes a job out of its lease gives its place back, whoever does
-- it and why. Claims of a limited queue wait for each other; those of any other do what they did before.

alter table biplane.queue
    add column global_concurrency integer check (global_concurrency > 0),
    add column per_key integer check (per_key > 0),
    -- The path into args whose value is a job's key.
    add column turns_by text[],
    -- How many start in a second.
    add column rate double precision check (rate > 0),
    add column limited boolean not null generated always as (
        global_concurrency is not null or turns_by is not null or rate is not null) stored,
    add check (per_key is null or turns_by is not null);

-- What claims of a limited queue wait for, and what they hand on to each other.
create table biplane.queue_turn (
    queue_id integer primary key references biplane.queue,
    -- How many jobs might have started at `refilled_at`; see `tokens_now`.
    tokens double precision not null default 1,
    refilled_at timestamptz not null default clock_timestamp(),
    -- The key that had its turn last.
    last_key bigint not null default 0,
    claims bigint not null default 0,
    -- No lease of the queue that is still there has a lower `turn`.
    oldest bigint not null default 0
) with (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);

create sequence biplane.turn_number;

-- The number of the claim of a limited queue, null where there is no limit, and the key of each job that was claimed.
-- Jobs that have ended are not taken out of `claimed`: what counts is also in `job_ids`.
alter table biplane.lease
    add column turn bigint,
    add column claimed bigint[],
    add column keys bigint[],
    add check (cardinality(claimed) = cardinality(keys));
alter table biplane.lease
    alter column claimed set storage main,
    alter column keys set storage main;
create index lease_turn on biplane.lease (queue_id, turn) where turn is not null;

-- Lanes 3 to 5 are 0 to 2 of jobs whose keys take turns. A row in the wrong half of its queue is moved by who claims.
-- What is there satisfied a narrower rule.
alter table biplane.ready
    add column key_hash bigint,
    drop constraint ready_lane_check,
    add constraint ready_lane_check check (lane between 0 and 5) not valid,
    add constraint ready_key check ((lane >= 3) = (key_hash is not null)) not valid,
    add constraint ready_new_key check (lane <> 3 or (seq = job_id and attempt = 1 and rescues = 0)) not valid;
create index ready_keys on biplane.ready (queue_id, key_hash, lane, priority, seq) where key_hash is not null;

-- What jobs of one key have in common. Those without the value have one key together.
create function biplane.turn_key(path text[], args jsonb) returns bigint
language sql immutable parallel safe as $$
    select hashtextextended(coalesce(args #> path, 'null')::text, 0)
$$;

-- How many jobs may start now where `tokens` might have at `refilled_at`: what one tenth of a second brings and one
-- more is the most that is saved. A clock that was set back lets one start and goes on from there.
create function biplane.tokens_now(rate double precision, tokens double precision, refilled_at timestamptz)
returns double precision language sql volatile as $$
    select case
        when refilled_at > clock_timestamp() then greatest(tokens, 1)
        else least(tokens + rate * extract(epoch from clock_timestamp() - refilled_at)::double precision, 1 + rate / 10)
    end
$$;

-- How many jobs of a limited queue may start now, at most `wanted`; none where it is paused or not limited.
create function biplane.turn_room(of_queue integer, wanted bigint) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    known record;
    room bigint := wanted;
begin
    select q.global_concurrency, q.rate, t.tokens, t.refilled_at, t.oldest into known
    from biplane.queue q join biplane.queue_turn t on t.queue_id = q.id
    where q.id = of_queue and q.limited and q.paused_at is null;
    if not found then
        return 0;
    end if;
    if known.rate is not null then
        room := least(room, floor(biplane.tokens_now(known.rate, known.tokens, known.refilled_at)));
    end if;
    if room > 0 and known.global_concurrency is not null then
        select least(room, known.global_concurrency - coalesce(sum(cardinality(l.job_ids)), 0)) into room
        from biplane.lease l where l.queue_id = of_queue and l.turn >= known.oldest;
    end if;
    return greatest(room, 0);
end
$$;

-- The same, and no other claim of the queue goes on before this transaction has ended: what it took is counted then.
create function biplane.open_turn(of_queue integer, wanted bigint) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    perform 1 from biplane.queue_turn t where t.queue_id = of_queue for update;
    return biplane.turn_room(of_queue, wanted);
end
$$;

-- Notes that so many jobs start and whose key was last among them. Returns the number that their lease bears.
create function biplane.spend_turn(of_queue integer, started bigint, last bigint) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    number bigint := nextval('biplane.turn_number'::regclass);
begin
    update biplane.queue_turn t
    set tokens = coalesce(biplane.tokens_now(q.rate, t.tokens, t.refilled_at) - started, t.tokens),
        refilled_at = clock_timestamp(), last_key = coalesce(last, t.last_key), claims = t.claims + 1,
        oldest = coalesce(
            (select min(l.turn) from biplane.lease l where l.queue_id = of_queue and l.turn >= t.oldest), number)
    from biplane.queue q
    where t.queue_id = of_queue and q.id = of_queue;
    return number;
end
$$;

-- The keys of a queue that may start jobs now, from the one after the last on and around: how many of each run, how
-- many more of it may. Once `most` keys that run none are found, the others are left out.
create function biplane.take_turns(of_queue integer, most bigint)
returns table (key_hash bigint, place integer, running integer, room bigint, claims bigint)
language plpgsql rows 10 set search_path = pg_catalog, pg_temp as $$
declare
    known record;
    busy jsonb;
    at_key bigint;
    around boolean := false;
    idle bigint := 0;
begin
    select q.per_key, t.last_key, t.claims, t.oldest into known
    from biplane.queue q join biplane.queue_turn t on t.queue_id = q.id
    where q.id = of_queue and q.turns_by is not null;
    if not found or most = 0 then
        return;
    end if;
    select coalesce(jsonb_object_agg(counted.key, counted.jobs), '{}') into busy
    from (
        select k.key, count(*) as jobs
        from biplane.lease l cross join lateral unnest(l.claimed, l.keys) as k (job_id, key)
        where l.queue_id = of_queue and l.turn >= known.oldest and k.job_id = any (l.job_ids)
        group by k.key
    ) counted;
    claims := known.claims;
    place := 0;
    at_key := known.last_key;
    loop
        select r.key_hash into key_hash from biplane.ready r
        where r.queue_id = of_queue and r.key_hash > at_key
        order by r.key_hash limit 1;
        if key_hash is null then
            exit when around;
            around := true;
            at_key := -9223372036854775808;
            continue;
        end if;
        exit when around and key_hash > known.last_key;
        at_key := key_hash;
        place := place + 1;
        running := coalesce((busy ->> key_hash::text)::integer, 0);
        room := least(most, coalesce(known.per_key - running, most));
        if room > 0 then
            return next;
        end if;
        if running = 0 then
            idle := idle + 1;
            exit when idle >= most;
        end if;
    end loop;
end
$$;

-- The rows of `ready` that a claim of a limited queue takes, at most `room` of one lane and priority above `after`.
-- These two are functions since no plan of theirs is worth compiling, and the planner cannot know how few rows there are.
create function biplane.turn_rows(of_queue integer, of_lane integer, of_priority integer, after bigint, room bigint)
returns table (row_at tid)
language plpgsql rows 10 set search_path = pg_catalog, pg_temp set jit = off as $$
begin
    return query
        select r.ctid from biplane.ready r
        where r.queue_id = of_queue and r.lane = of_lane and r.priority = of_priority and r.seq > after
        order by r.seq
        limit room;
end
$$;

-- The same where keys take turns: the key that has the fewest jobs is next, then the one whose turn it is. Among the jobs
-- of one key the lanes alternate, and a job goes up one priority each `ageing` seconds that it waits. A job of lane 5 is
-- taken alone, by every third claim.
create function biplane.turn_rows_by_key(of_queue integer, most bigint, ageing double precision)
returns table (row_at tid, key_hash bigint, place integer)
language plpgsql rows 10 set search_path = pg_catalog, pg_temp set jit = off as $$
#variable_conflict use_column
begin
    return query
        with turns as materialized (
            select * from biplane.take_turns(of_queue, turn_rows_by_key.most)
        ), due as materialized (
            select t.key_hash, t.place, t.running, t.room, t.claims, r.row_at, r.lane,
                row_number() over (partition by t.key_hash, r.lane
                    order by r.priority - extract(epoch from now() - biplane.job_created_at(r.job_id)) / ageing, r.seq) as nth
            from turns t
                cross join generate_series(3, 5) as l (lane)
                cross join generate_series(1, 9) as p (priority)
                cross join lateral (
                    select ctid as row_at, lane, priority, seq, job_id from biplane.ready
                    where queue_id = of_queue and key_hash = t.key_hash and lane = l.lane and priority = p.priority
                    order by seq limit t.room
                ) r
        ), ranked as materialized (
            select *, lane = 5 as alone,
                row_number() over (partition by key_hash, lane = 5 order by nth, (lane + claims) % 2) as of_key
            from due
        )
        (
            select row_at, key_hash, place from ranked
            where not alone and of_key <= room and not (claims % 3 = 2 and exists (select from ranked where alone))
            order by running + of_key, place
            limit turn_rows_by_key.most
        ) union all (
            select row_at, key_hash, place from ranked
            where alone and (claims % 3 = 2 or not exists (select from ranked where not alone))
            order by nth, place
            limit 1
        );
end
$$;

-- Gives a queue its limits. False: it has them already. What runs counts from then on, under its key by the new path:
-- claims that have begun are waited for, and none begins before this transaction has ended.
create function biplane.limit_queue(
    of_queue integer, new_global integer, new_per_key integer, new_turns_by text[], new_rate double precision
) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '2s' as $$
begin
    perform 1 from biplane.queue q
    where q.id = of_queue and (q.global_concurrency, q.per_key, q.turns_by, q.rate)
        is not distinct from (new_global, new_per_key, new_turns_by, new_rate);
    if found then
        return false;
    end if;
    lock table biplane.lease in share row exclusive mode;
    update biplane.queue q
    set global_concurrency = new_global, per_key = new_per_key, turns_by = new_turns_by, rate = new_rate
    where q.id = of_queue;
    insert into biplane.queue_turn as t (queue_id) values (of_queue)
    on conflict (queue_id) do update set tokens = least(t.tokens, 1);
    update biplane.lease l
    set turn = coalesce(l.turn, nextval('biplane.turn_number'::regclass)), claimed = k.claimed, keys = k.keys
    from (
        select h.batch_id, array_agg(j.id) filter (where new_turns_by is not null) as claimed,
            array_agg(biplane.turn_key(new_turns_by, j.args)) filter (where new_turns_by is not null) as keys
        from biplane.lease h cross join lateral unnest(h.job_ids) as n (job_id) join biplane.job j on j.id = n.job_id
        where h.queue_id = of_queue
        group by h.batch_id
    ) k
    where l.batch_id = k.batch_id;
    return true;
end
$$;

-- As before, but a job of a queue whose keys take turns is put in under its key.
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

-- The same for many.
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

revoke all on function biplane.turn_room(integer, bigint), biplane.open_turn(integer, bigint),
    biplane.spend_turn(integer, bigint, bigint), biplane.take_turns(integer, bigint),
    biplane.turn_rows(integer, integer, integer, bigint, bigint),
    biplane.turn_rows_by_key(integer, bigint, double precision),
    biplane.limit_queue(integer, integer, integer, text[], double precision)
from public;
