-- Moves what lies in the wrong half of its queue: jobs under no key where keys take turns, and those under one where they
-- do not any more.
with half as materialized (
    select id, turns_by, case when turns_by is null then 3 else 0 end as low from biplane.queue where id = $1
), wrong as materialized (
    select ctid from biplane.ready
    where queue_id = $1 and lane between (select low from half) and (select low + 2 from half)
    order by lane, priority, seq
    limit $2
    for update skip locked
)
update biplane.ready r
set lane = r.lane + 3 - 2 * h.low,
    key_hash = case
        when h.turns_by is not null
        then coalesce((select biplane.turn_key(h.turns_by, j.args) from biplane.job j where j.id = r.job_id), 0)
    end
from half h
where r.ctid = any (array(select ctid from wrong))
