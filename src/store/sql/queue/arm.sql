update biplane.queue set armed_until = now() + $2 * interval '1 millisecond' where id = any ($1)
