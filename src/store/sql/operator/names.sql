select (select id from biplane.queue where name = $1), (select id from biplane.kind where name = $2)
