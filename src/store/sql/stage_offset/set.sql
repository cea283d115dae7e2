insert into biplane.stage_offset (group_name, topic, partition, next_offset)
select group_name, topic, partition, next_offset
from unnest($1::text[], $2::text[], $3::integer[], $4::bigint[]) as asked (group_name, topic, partition, next_offset)
order by group_name, topic, partition
on conflict (group_name, topic, partition) do update
set next_offset = excluded.next_offset, updated_at = now()
