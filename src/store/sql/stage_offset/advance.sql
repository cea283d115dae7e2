update biplane.stage_offset
set next_offset = $5, updated_at = now()
where group_name = $1 and topic = $2 and partition = $3 and next_offset = $4
