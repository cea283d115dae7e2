delete from biplane.callback c
where c.made_at < now() - $1 * interval '1 day'
    and (c.over or not exists (select from biplane.deferred d where d.job_id = c.job_id))
