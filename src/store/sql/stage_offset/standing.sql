select asked.number, stands.next_offset
from unnest($1::text[], $2::text[], $3::integer[], $4::bigint[])
    with ordinality as asked (group_name, topic, partition, next_offset, number)
join biplane.stage_offset stands using (group_name, topic, partition)
