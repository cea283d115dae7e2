-- Requests that their senders may send again without a second effect.
-- oldest-engine: 1

create table biplane.request (
    -- Over who sent it, to where, and the key that it bears.
    key bytea primary key check (octet_length(key) = 32),
    -- What tells its body from another.
    print bytea not null check (octet_length(print) = 32),
    made_at timestamptz not null default now(),
    -- What it was answered with; null stands for a job whose unique key another held.
    ids bigint[] not null default '{}'
);
create index request_made on biplane.request (made_at);

-- How long a request is known.
create function biplane.request_kept() returns interval language sql immutable parallel safe as $$
    select interval '24 hours'
$$;

-- As `enqueue`, or `enqueue_many`, unless the request was carried out before: then what that came to. Null: its key
-- belongs to a request with another body. Who sends it a second time meanwhile waits for the first.
create function biplane.enqueue_request(
    request_key bytea,
    request_print bytea,
    many boolean,
    kind text,
    args jsonb[],
    unique_keys text[],
    run_at timestamptz,
    priority integer,
    max_attempts integer,
    expires_at timestamptz,
    trace text
) returns bigint[]
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    known record;
    made bigint[];
begin
    insert into biplane.request as r (key, print) values (request_key, request_print)
    on conflict (key) do update set print = excluded.print, made_at = now(), ids = '{}'
    where r.made_at <= now() - biplane.request_kept();
    if not found then
        select r.print, r.ids into known from biplane.request r where r.key = request_key;
        return case when known.print = request_print then known.ids end;
    end if;
    if many then
        select array_agg(m.job_id order by m.place) into made
        from biplane.enqueue_many(enqueue_request.kind, enqueue_request.args, enqueue_request.unique_keys,
            enqueue_request.run_at, enqueue_request.priority, enqueue_request.max_attempts, enqueue_request.expires_at,
            enqueue_request.trace) m;
    else
        made := array[biplane.enqueue(enqueue_request.kind, enqueue_request.args[1], enqueue_request.unique_keys[1],
            enqueue_request.run_at, enqueue_request.priority, enqueue_request.max_attempts, enqueue_request.expires_at,
            enqueue_request.trace)];
    end if;
    update biplane.request r set ids = made where r.key = request_key;
    return made;
end
$$;

revoke all on function biplane.enqueue_request(
    bytea, bytea, boolean, text, jsonb[], text[], timestamptz, integer, integer, timestamptz, text) from public;

-- Those who follow jobs as they end ask for the newest.
create index failed_at on biplane.failed (failed_at);
