-- By name or by number, whichever it is.
with gone as (
    update biplane.token set revoked_at = now(), revoked_by = $2
    where (name = $1 or id::text = $1) and revoked_at is null
    returning id, name
), noted as (
    insert into biplane.audit (actor, action, subject)
    select $2, 'tokens.revoke', jsonb_build_object('token', name, 'id', id::text) from gone
)
select count(*) from gone
