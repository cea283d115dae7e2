-- Workers that pull their jobs over HTTP.
-- oldest-engine: 1

-- Such a worker is known by its name: whoever claims under one that is there goes on as it.
alter table biplane.worker add column pull boolean not null default false;
create unique index worker_pull on biplane.worker (name) where pull;

-- The timeout of an attempt counts from here where no engine runs it.
alter table biplane.lease add column claimed_at timestamptz not null default now();

-- How far a job that runs says it is; the next attempt may go on from there. The rows that are there satisfy the checks,
-- and are not read for them under a lock.
alter table biplane.progress
    add column told jsonb,
    add column told_at timestamptz,
    drop constraint progress_check,
    add constraint progress_some check (run_at is not null or kept is not null or told is not null)
        not valid,
    add constraint progress_told check ((told is null) = (told_at is null)) not valid;

alter table biplane.token
    drop constraint token_scopes_check,
    add constraint token_scopes_check check (
        cardinality(scopes) > 0 and scopes <@ array['read', 'payload', 'operate', 'work', 'admin']);
