select biplane.call_back($1, $2), (select job_id from biplane.callback where token_hash = $1)
