-- Callbacks that jobs wait for.
-- oldest-engine: 1

-- `w`: waiting for a callback, until run_at. What is there satisfies the wider rule.
alter table biplane.deferred drop constraint deferred_reason_check;
alter table biplane.deferred add constraint deferred_reason_check check (reason in ('s', 'r', 'z', 'w')) not valid;

-- The addresses that attempts gave away. Whoever reads this table can call none of them.
create table biplane.callback (
    token_hash bytea primary key check (octet_length(token_hash) = 32),
    job_id bigint not null,
    made_at timestamptz not null default now(),
    -- Until when its job waits for it; null before that.
    until timestamptz,
    answered_at timestamptz,
    -- What came, as JSON text, until an attempt has gone on with it.
    answer text,
    over boolean not null default false,
    check (answer is null or (answered_at is not null and not over))
);
create index callback_job on biplane.callback (job_id);

-- Takes what a callback brings, once. Returns `taken`, `double`, `late` or `unknown`.
create function biplane.call_back(hash bytea, given text) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    called record;
begin
    -- Whoever writes that the job waits locks this row as well, so that one of the two sees the other.
    select c.job_id, c.until, c.answered_at, c.over into called
    from biplane.callback c where c.token_hash = call_back.hash
    for update;
    if not found then
        return 'unknown';
    end if;
    if called.answered_at is not null then
        return 'double';
    end if;
    if called.over or called.until <= clock_timestamp() then
        return 'late';
    end if;
    update biplane.deferred d set run_at = least(d.run_at, clock_timestamp())
    where d.job_id = called.job_id and d.reason = 'w';
    -- The wait is over already, and an attempt goes on without what would come now.
    if not found and called.until is not null then
        return 'late';
    end if;
    update biplane.callback c set answered_at = clock_timestamp(), answer = call_back.given
    where c.token_hash = call_back.hash;
    return 'taken';
end
$$;
revoke all on function biplane.call_back(bytea, text) from public;
