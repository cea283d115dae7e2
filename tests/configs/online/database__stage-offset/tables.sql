create table payments (id bigint);
