-- Where durable jobs lie.
--
-- Every migration is one transaction, written for the schema `biplane` and carried out in the one that the
-- deployment names. It is never changed once it is released: what is missing comes with the next.
-- oldest-engine: 1

-- A job's payload stands in `job` from enqueue until its day is dropped and never moves. Where the job stands is
-- said by which of `deferred`, `ready`, `lease` and `failed` names it; a job that none of them names is in `done`.

create table biplane.queue (
    id integer generated always as identity primary key,
    name text not null unique check (name ~ '^[a-z][a-z0-9._-]*$'),
    paused_at timestamptz,
    paused_by text,
    pause_reason text,
    -- While an idle engine waits for a notification; enqueue sends none otherwise.
    armed_until timestamptz,
    check (paused_at is not null or (paused_by is null and pause_reason is null))
);

-- What the running engines know of a kind of job, so that SQL can enqueue.
create table biplane.kind (
    id integer generated always as identity primary key,
    name text not null unique check (name ~ '^[a-z][a-z0-9._-]*$'),
    queue_id integer not null references biplane.queue,
    priority smallint not null default 5 check (priority between 1 and 9),
    max_attempts smallint not null default 1 check (max_attempts >= 1),
    -- Paths into args, such as `{connector_id}`, whose values make the unique key.
    unique_by text[],
    -- The states in which a claim is held: 1 scheduled, 2 queued, 4 running, 8 retrying, 16 waiting, 32 failed.
    unique_while smallint not null default 31 check (unique_while between 1 and 63),
    unique_seconds integer check (unique_seconds > 0),
    published_at timestamptz not null default now(),
    retired_at timestamptz
);

create sequence biplane.job_number;
create sequence biplane.return_number;

-- Milliseconds since 1970 by the database's clock, then twenty bits of a sequence: an id alone finds its day.
create function biplane.new_job_id() returns bigint language sql volatile parallel unsafe as $$
    select ((extract(epoch from clock_timestamp()) * 1000)::bigint << 20)
        | (nextval('biplane.job_number'::regclass) & 1048575)
$$;

create function biplane.first_job_id(at timestamptz) returns bigint language sql immutable parallel safe as $$
    select (extract(epoch from at) * 1000)::bigint << 20
$$;

create function biplane.job_created_at(id bigint) returns timestamptz language sql immutable parallel safe as $$
    select to_timestamp((id >> 20) / 1000.0)
$$;

create table biplane.job (
    id bigint not null default biplane.new_job_id() primary key,
    kind_id integer not null,
    queue_id integer not null,
    priority smallint not null check (priority between 1 and 9),
    max_attempts smallint not null check (max_attempts >= 1),
    unique_while smallint check (unique_while between 1 and 63),
    unique_seconds integer check (unique_seconds > 0),
    expires_at timestamptz,
    args jsonb not null,
    unique_key text,
    trace text,
    check ((unique_key is null) = (unique_while is null))
) partition by range (id);

-- Payloads that outlive their day, and those of a day whose partition is missing.
create table biplane.job_kept partition of biplane.job default;

-- Due work only. Lane 0: new jobs, whose seq is their id. Lane 1: jobs that come back. Lane 2: jobs to be claimed alone.
create table biplane.ready (
    seq bigint not null,
    job_id bigint not null,
    queue_id integer not null,
    attempt smallint not null check (attempt >= 1),
    priority smallint not null check (priority between 1 and 9),
    lane smallint not null check (lane between 0 and 2),
    rescues smallint not null check (rescues >= 0),
    check (lane > 0 or (seq = job_id and attempt = 1 and rescues = 0))
) with (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_cost_delay = 0
);
create index ready_order on biplane.ready (queue_id, lane, priority, seq);

-- Work that is due later. Reasons: `s` scheduled, `r` retrying after a failure, `z` snoozed.
create table biplane.deferred (
    job_id bigint primary key,
    run_at timestamptz not null,
    queue_id integer not null,
    attempt smallint not null check (attempt >= 1),
    priority smallint not null check (priority between 1 and 9),
    reason "char" not null check (reason in ('s', 'r', 'z')),
    error jsonb,
    check (reason <> 's' or (attempt = 1 and error is null)),
    check (reason <> 'r' or (attempt > 1 and error is not null))
);
create index deferred_due on biplane.deferred (run_at);

create sequence biplane.worker_epoch;
create table biplane.worker (
    id uuid primary key,
    epoch bigint not null default nextval('biplane.worker_epoch') unique,
    heartbeat_at timestamptz not null default clock_timestamp(),
    started_at timestamptz not null default clock_timestamp(),
    name text not null,
    version text not null
) with (fillfactor = 50);

-- The right to run a claimed batch until a deadline, one row a batch.
create table biplane.lease (
    batch_id uuid primary key,
    worker_id uuid not null,
    epoch bigint not null,
    deadline_at timestamptz not null,
    queue_id integer not null,
    job_ids bigint[] not null,
    attempts smallint[] not null,
    rescues smallint[] not null,
    check (cardinality(job_ids) between 1 and 1000),
    check (cardinality(job_ids) = cardinality(attempts) and cardinality(job_ids) = cardinality(rescues))
) with (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
-- The arrays are written once and read once: moving them out of the row costs more than it saves.
alter table biplane.lease
    alter column job_ids set storage main,
    alter column attempts set storage main,
    alter column rescues set storage main;

-- Exhausted jobs, kept until an operator retries or discards them.
create table biplane.failed (
    job_id bigint primary key,
    failed_at timestamptz not null default now(),
    queue_id integer not null,
    kind_id integer not null,
    attempt smallint not null check (attempt >= 1),
    code text not null,
    error jsonb not null
);
create index failed_kind on biplane.failed (kind_id, failed_at);

-- Outcomes for good, append only. `s` succeeded, `c` cancelled, `d` discarded.
create table biplane.done (
    job_id bigint not null,
    done_at timestamptz not null default now(),
    queue_id integer not null,
    kind_id integer not null,
    duration_ms integer not null check (duration_ms >= 0),
    attempt smallint not null check (attempt >= 1),
    outcome "char" not null check (outcome in ('s', 'c', 'd')),
    code text,
    detail jsonb,
    check (outcome <> 's' or code is null)
) partition by range (done_at);
-- Outcomes come about in the order of ids, so a block-range index finds one for a fraction of a tree's log.
create index done_job on biplane.done using brin (job_id, done_at) with (pages_per_range = 16, autosummarize = on);
create table biplane.done_other partition of biplane.done default;

-- Who holds a unique key. Held while its job is in one of its states; after that, until it expires.
create table biplane.unique_claim (
    kind_id integer not null,
    key text not null,
    job_id bigint not null,
    held boolean not null default true,
    expires_at timestamptz,
    primary key (kind_id, key),
    check (held or expires_at is not null)
);
create index unique_claim_job on biplane.unique_claim (job_id);

-- What operators did.
create table biplane.audit (
    id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    actor text not null,
    action text not null,
    subject jsonb not null,
    detail jsonb
);

-- Partitions for today and the days that follow. Returns how many were made, or null where another session is at it.
create function biplane.upkeep_ahead(days integer) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '2s' as $$
declare
    day date;
    suffix text;
    made integer := 0;
    opens timestamptz;
    closes timestamptz;
begin
    if not pg_try_advisory_xact_lock(hashtextextended('biplane.upkeep', 0)) then
        return null;
    end if;
    for day in
        select generate_series(0, days) + (clock_timestamp() at time zone 'UTC')::date
    loop
        suffix := to_char(day, 'YYYYMMDD');
        opens := day::timestamp at time zone 'UTC';
        closes := (day + 1)::timestamp at time zone 'UTC';
        if to_regclass('biplane.job_' || suffix) is null then
            execute format('create table biplane.%I (like biplane.job including all)', 'job_' || suffix);
            -- Attaching takes a weaker lock than creating in place, and rows of that day may lie in `job_kept`.
            execute format(
                'with moved as (delete from biplane.job_kept where id >= %s and id < %s returning *) insert into biplane.%I select * from moved',
                biplane.first_job_id(opens), biplane.first_job_id(closes), 'job_' || suffix);
            execute format(
                'alter table biplane.job attach partition biplane.%I for values from (%s) to (%s)',
                'job_' || suffix, biplane.first_job_id(opens), biplane.first_job_id(closes));
            made := made + 1;
        end if;
        if to_regclass('biplane.done_' || suffix) is null then
            execute format('create table biplane.%I (like biplane.done including all)', 'done_' || suffix);
            execute format(
                'with moved as (delete from biplane.done_other where done_at >= %L and done_at < %L returning *) insert into biplane.%I select * from moved',
                opens, closes, 'done_' || suffix);
            execute format(
                'alter table biplane.done attach partition biplane.%I for values from (%L) to (%L)',
                'done_' || suffix, opens, closes);
            made := made + 1;
        end if;
    end loop;
    return made;
end
$$;

-- How many whole days ahead of today have both partitions.
create function biplane.upkeep_days_ahead() returns integer
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    days integer := 0;
    suffix text;
begin
    loop
        suffix := to_char((clock_timestamp() at time zone 'UTC')::date + days + 1, 'YYYYMMDD');
        exit when to_regclass('biplane.job_' || suffix) is null or to_regclass('biplane.done_' || suffix) is null
            or days = 366;
        days := days + 1;
    end loop;
    return days;
end
$$;

-- Drops the oldest day of payloads that is `days` old or older. Payloads that something still names are moved to
-- `job_kept`; with more of those than `keep_at_most` the day stays. Returns the day, or null where there was nothing
-- to drop or another session is at it.
create function biplane.upkeep_drop_jobs(days integer, keep_at_most integer) returns date
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '2s' as $$
declare
    day date;
    name text;
    low bigint;
    high bigint;
    still bigint[];
begin
    if not pg_try_advisory_xact_lock(hashtextextended('biplane.upkeep', 0)) then
        return null;
    end if;
    for name in
        select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'biplane.job'::regclass and c.relname ~ '^job_[0-9]{8}$'
        order by c.relname
    loop
        day := to_date(substr(name, 5), 'YYYYMMDD');
        exit when day > (clock_timestamp() at time zone 'UTC')::date - greatest(days, 1);
        low := biplane.first_job_id(day::timestamp at time zone 'UTC');
        high := biplane.first_job_id((day + 1)::timestamp at time zone 'UTC');
        -- Reads go on, but who brings a finished job back locks its payload's row and waits here.
        execute format('lock table biplane.%I in exclusive mode', name);
        -- One statement, hence one snapshot: a job that moves from one table to another is seen in one of them.
        execute 'select coalesce(array_agg(distinct job_id), ''{}'') from (
            select job_id from biplane.ready where job_id >= $1 and job_id < $2
            union all select job_id from biplane.deferred where job_id >= $1 and job_id < $2
            union all select job_id from biplane.failed where job_id >= $1 and job_id < $2
            union all select named from biplane.lease, unnest(job_ids) named where named >= $1 and named < $2
            ) named' into still using low, high;
        continue when cardinality(still) > keep_at_most;
        execute format('alter table biplane.job detach partition biplane.%I', name);
        execute format('insert into biplane.job select * from biplane.%I where id = any($1)', name) using still;
        execute format('drop table biplane.%I', name);
        return day;
    end loop;
    return null;
end
$$;

-- Drops every day of outcomes that is `days` old or older. Returns how many, or null where another session is at it.
create function biplane.upkeep_drop_done(days integer) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '2s' as $$
declare
    name text;
    dropped integer := 0;
begin
    if not pg_try_advisory_xact_lock(hashtextextended('biplane.upkeep', 0)) then
        return null;
    end if;
    for name in
        select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'biplane.done'::regclass and c.relname ~ '^done_[0-9]{8}$'
            and to_date(substr(c.relname, 6), 'YYYYMMDD')
                <= (clock_timestamp() at time zone 'UTC')::date - greatest(days, 1)
        order by c.relname
    loop
        execute format('drop table biplane.%I', name);
        dropped := dropped + 1;
    end loop;
    return dropped;
end
$$;

-- Functions are everybody's unless this is said.
revoke all on function biplane.upkeep_ahead(integer), biplane.upkeep_days_ahead(),
    biplane.upkeep_drop_jobs(integer, integer), biplane.upkeep_drop_done(integer) from public;

select biplane.upkeep_ahead(7);
