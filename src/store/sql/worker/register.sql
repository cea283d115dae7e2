insert into biplane.worker (id, name, version) values ($1, $2, $3) returning epoch
