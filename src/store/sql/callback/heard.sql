-- What came of the callbacks of a job; no row where it waited for none. An answer may also have come to an attempt that
-- died before it waited.
select answer from biplane.callback
where job_id = $1 and not over and (answered_at is not null or until is not null)
order by answered_at nulls last
limit 1
