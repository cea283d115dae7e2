-- A bounded number at a time, so that no transaction is long.
delete from biplane.enqueued e
using (
    select source, place, part from biplane.enqueued
    where made_at < now() - $1 * interval '1 day'
    order by made_at
    limit 10000
    for update skip locked
) old
where e.source = old.source and e.place = old.place and e.part = old.part
