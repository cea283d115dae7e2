-- Forgets what was asked of jobs that nobody runs any more.
delete from biplane.cancel_ask a
where job_id = any ($1) and not exists (select from biplane.lease l where l.job_ids && array[a.job_id])
