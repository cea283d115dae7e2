-- Who may ask an engine over HTTP.
-- oldest-engine: 1

-- The secret itself stands nowhere: `hash` is its SHA-256.
create table biplane.token (
    id bigint generated always as identity primary key,
    name text not null check (name ~ '^[a-z][a-z0-9._-]*$'),
    hash bytea not null check (octet_length(hash) = 32),
    scopes text[] not null check (cardinality(scopes) > 0 and scopes <@ array['read', 'payload', 'operate', 'admin']),
    created_at timestamptz not null default now(),
    created_by text not null,
    expires_at timestamptz,
    revoked_at timestamptz,
    revoked_by text,
    check ((revoked_at is null) = (revoked_by is null))
);
create unique index token_name on biplane.token (name) where revoked_at is null;
