-- as it says :here
delete from notes
where id in (select id from notes where old limit :batch)
