with made as (
    insert into biplane.token (name, hash, scopes, created_by, expires_at)
    values ($1, $2, $3, $4, now() + $5::bigint * interval '1 second')
    returning id, expires_at
), noted as (
    insert into biplane.audit (actor, action, subject, detail)
    select $4, 'tokens.create', jsonb_build_object('token', $1, 'id', id::text),
        jsonb_build_object('scopes', $3, 'expires_at', expires_at)
    from made
)
select id from made
