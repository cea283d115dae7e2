-- What an engine knows of its kinds; a row is written only where something about it is new.
with wanted as (
    select * from unnest($1::text[], $2::integer[], $3::smallint[], $4::smallint[], $5::text[], $6::smallint[], $7::integer[],
            $8::text[], $9::integer[], $10::text[])
        as w (name, queue_id, priority, max_attempts, unique_by, unique_while, unique_seconds, on_conflict, max_args_bytes,
            exhausted_enqueues)
), made as (
    insert into biplane.kind as k (name, queue_id, priority, max_attempts, unique_by, unique_while, unique_seconds,
        on_conflict, max_args_bytes, exhausted_enqueues)
    select name, queue_id, priority, max_attempts, unique_by::text[], unique_while, unique_seconds, on_conflict,
        max_args_bytes, exhausted_enqueues
    from wanted order by name
    on conflict (name) do update
        set queue_id = excluded.queue_id, priority = excluded.priority, max_attempts = excluded.max_attempts,
            unique_by = excluded.unique_by, unique_while = excluded.unique_while,
            unique_seconds = excluded.unique_seconds, on_conflict = excluded.on_conflict,
            max_args_bytes = excluded.max_args_bytes, exhausted_enqueues = excluded.exhausted_enqueues,
            published_at = now(), retired_at = null
        where (k.queue_id, k.priority, k.max_attempts, k.unique_by, k.unique_while, k.unique_seconds,
                k.on_conflict, k.max_args_bytes, k.exhausted_enqueues, k.retired_at)
            is distinct from (excluded.queue_id, excluded.priority, excluded.max_attempts, excluded.unique_by,
                excluded.unique_while, excluded.unique_seconds, excluded.on_conflict, excluded.max_args_bytes,
                excluded.exhausted_enqueues, null)
    returning id, name
)
select id, name from made union select k.id, k.name from biplane.kind k join wanted w on w.name = k.name
