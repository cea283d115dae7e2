-- takes an id
select nam from people where id = :id
