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

revoke all on function biplane.turn_room(integer, bigint), biplane.open_turn(integer, bigint),
    biplane.spend_turn(integer, bigint, bigint), biplane.take_turns(integer, bigint),
    biplane.turn_rows(integer, integer, integer, bigint, bigint),
    biplane.turn_rows_by_key(integer, bigint, double precision),
    biplane.limit_queue(integer, integer, integer, text[], double precision)
from public;
