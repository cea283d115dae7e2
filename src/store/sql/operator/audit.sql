-- What operators did, newest first.
select id::text, to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), actor, action, subject::text, detail::text
from biplane.audit
where ($1::text is null or action = $1 or action like $1 || '.%') and ($2::text is null or actor = $2)
    and ($3::bigint is null or at >= now() - $3 * interval '1 second') and ($4::bigint is null or id < $4)
order by biplane.audit.id desc
limit $5
