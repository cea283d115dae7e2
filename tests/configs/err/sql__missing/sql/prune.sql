delete from notes where old
