delete from notes
where id in (
    select id from notes
    where written_at < now() - make_interval(days => :keep_days)
    limit :batch
);
