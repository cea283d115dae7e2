-- Where stages stand that are exactly-once in this database. Their effects and this move in one transaction.
-- oldest-engine: 1

create table biplane.stage_offset (
    -- The consumer group of the stage.
    group_name text not null,
    topic text not null,
    partition integer not null check (partition >= 0),
    next_offset bigint not null check (next_offset >= 0),
    updated_at timestamptz not null default now(),
    primary key (group_name, topic, partition)
) with (fillfactor = 50);
