-- The first events, no more than so many bytes of them, but one in any case.
select o.id, o.topic, o.key, o.value, o.headers, (extract(epoch from o.made_at) * 1000)::bigint
from (
    select id, sum(bytes) over (order by id) - bytes as before
    from (
        select id, bytes from biplane.outbox where id > $1 and topic <> all ($2) order by id limit $3
    ) next
) first
    join biplane.outbox o on o.id = first.id
where first.before < $4
order by o.id
