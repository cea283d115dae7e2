-- `state` says whether it opens anything: `valid`, `expired` or `revoked`.
select id::text, name, scopes,
    case when revoked_at is not null then 'revoked' when expires_at <= now() then 'expired' else 'valid' end as state,
    created_by, extract(epoch from now() - created_at)::float8 as age, extract(epoch from expires_at - now())::float8 as left
from biplane.token order by token.id
