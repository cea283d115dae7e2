delete from biplane.worker where id = $1
