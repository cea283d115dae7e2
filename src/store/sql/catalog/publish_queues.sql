with wanted as (
    select name from unnest($1::text[]) as w (name)
), made as (
    insert into biplane.queue (name) select name from wanted order by name on conflict (name) do nothing returning id, name
)
select id, name from made union select q.id, q.name from biplane.queue q join wanted w on w.name = q.name
