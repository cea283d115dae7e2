-- Events of jobs that are done, until Kafka has them.
-- oldest-engine: 1

create table biplane.outbox (
    -- The order in which they go.
    id bigint generated always as identity primary key,
    job_id bigint not null,
    made_at timestamptz not null default now(),
    topic text not null,
    key bytea,
    -- JSON text; null: a null value.
    value text,
    -- A JSON object of texts by name, as text: jsonb takes no NUL.
    headers text not null,
    bytes integer not null
) with (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- Whose turn it is to send: one engine at a time, so that they go in their order.
create table biplane.outbox_turn (
    one boolean primary key default true check (one),
    relay uuid,
    until timestamptz not null default '-infinity'
) with (fillfactor = 50);
insert into biplane.outbox_turn default values;
