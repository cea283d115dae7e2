insert into biplane.audit (actor, action, subject, detail)
values ($1, $2, $3::text::jsonb, jsonb_build_object('count', 0) || $4::text::jsonb)
returning id
