-- What each type is called in a cast, whether it is a list, and whether it or its elements are JSON.
select format_type(taken.oid, -1),
    taken.typcategory = 'A',
    coalesce(nullif(plain.typbasetype, 0), plain.oid) in ('json'::regtype, 'jsonb'::regtype)
from unnest($1::oid[]) with ordinality as asked (oid, place)
join pg_type taken on taken.oid = asked.oid
join pg_type plain on plain.oid = case when taken.typcategory = 'A' then taken.typelem else taken.oid end
order by asked.place
