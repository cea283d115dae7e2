delete from notes
where author = $1
