-- Takes or keeps the turn, where anything waits. Nothing is written while nothing does.
with waiting as materialized (
    select exists (select from biplane.outbox) as any
), taken as (
    update biplane.outbox_turn t set relay = $1, until = clock_timestamp() + $2 * interval '1 millisecond'
    from waiting w where w.any and (t.relay = $1 or t.until < clock_timestamp())
    returning true
)
select w.any, exists (select from taken) from waiting w
