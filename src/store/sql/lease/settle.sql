-- What became of jobs under the leases that hold them, whatever it is. What no lease holds is left alone.
-- Verdicts: `s` succeeded, `c` cancelled, `d` discarded, `f` exhausted, `r` retry, `z` snooze, `w` wait for a callback,
-- `b` back to the queue.
with mine as materialized (
    select batch_id, queue_id, job_ids, attempts, rescues from biplane.lease
    where batch_id = any ($1) and epoch = $2
    order by batch_id
    for update
), held as materialized (
    select m.batch_id, m.queue_id, h.job_id, h.attempt, h.rescues, h.place
    from mine m
        cross join lateral unnest(m.job_ids, m.attempts, m.rescues) with ordinality as h (job_id, attempt, rescues, place)
), settled as materialized (
    select h.batch_id, h.queue_id, h.job_id, h.attempt, h.rescues, h.place, i.kind_id, i.verdict, i.duration_ms, i.code,
        i.detail::jsonb as detail, i.delay_ms, i.remembers, i.token, i.heard, j.priority, j.unique_key, j.unique_while
    from unnest($3::bigint[], $4::integer[], $5::"char"[], $6::integer[], $7::text[], $8::text[], $9::bigint[],
            $10::text[], $11::bytea[], $12::boolean[])
            as i (job_id, kind_id, verdict, duration_ms, code, detail, delay_ms, remembers, token, heard)
        join held h on h.job_id = i.job_id
        join biplane.job j on j.id = i.job_id
), rest as materialized (
    select batch_id, array_agg(job_id order by place) as job_ids, array_agg(attempt order by place) as attempts,
        array_agg(rescues order by place) as rescues
    from held
    where job_id not in (select job_id from settled)
    group by batch_id
), kept as (
    update biplane.lease l set job_ids = r.job_ids, attempts = r.attempts, rescues = r.rescues
    from rest r
    where l.batch_id = r.batch_id and exists (select from settled s where s.batch_id = r.batch_id)
), gone as (
    delete from biplane.lease l
    using mine m
    where l.batch_id = m.batch_id and m.batch_id not in (select batch_id from rest)
), written as (
    insert into biplane.done (job_id, queue_id, kind_id, duration_ms, attempt, outcome, code, detail)
    select job_id, queue_id, kind_id, duration_ms, attempt, verdict, code, detail
    from settled where verdict in ('s', 'c', 'd')
), published as (
    insert into biplane.outbox (job_id, topic, key, value, headers, bytes)
    select e.job_id, e.topic, e.key, e.value, e.headers, e.bytes
    from unnest($13::bigint[], $14::text[], $15::bytea[], $16::text[], $17::text[], $18::integer[])
            with ordinality as e (job_id, topic, key, value, headers, bytes, place)
        join settled s on s.job_id = e.job_id
    order by e.place
), exhausted as (
    insert into biplane.failed (job_id, queue_id, kind_id, attempt, code, error)
    select job_id, queue_id, kind_id, attempt, coalesce(code, 'unknown'), coalesce(detail, '{}')
    from settled where verdict = 'f'
), called as materialized (
    -- A callback may come before its job waits for it. It locks its row, too: one of the two sees the other.
    select c.token_hash, c.job_id, c.answered_at is not null as answered, s.token, s.verdict, s.heard, s.delay_ms
    from biplane.callback c join settled s on s.job_id = c.job_id and s.token is not null
    where not c.over
    for update of c
), answered as (
    select job_id from called where answered and (token_hash = token or not heard)
), addressed as (
    -- What an attempt went on with, or no more waited for, is over. So is everything of a job that is.
    update biplane.callback c
    set over = k.gone, answer = case when not k.gone then c.answer end,
        until = case when k.verdict = 'w' and k.token_hash = k.token
            then now() + k.delay_ms * interval '1 millisecond' else c.until end
    from (select *, verdict in ('s', 'c', 'd') or (heard and token_hash <> token) as gone from called) k
    where c.token_hash = k.token_hash and (k.gone or k.verdict = 'w')
), later as (
    -- What is not unique while it runs must take its key again, which promotion does.
    insert into biplane.deferred (job_id, run_at, queue_id, attempt, priority, reason, error)
    select job_id,
        case when verdict = 'w' and job_id in (select job_id from answered) then now()
            else now() + coalesce(delay_ms, 0) * interval '1 millisecond' end,
        queue_id, case when verdict = 'r' then attempt + 1 else attempt end, priority,
        case when verdict in ('r', 'w') then verdict else 'z' end,
        case when verdict = 'r' then jsonb_build_object('code', code, 'error', detail) end
    from settled where verdict in ('r', 'z', 'w') or (verdict = 'b' and unique_while & 4 = 0)
), back as (
    insert into biplane.ready (seq, job_id, queue_id, attempt, priority, lane, rescues)
    select nextval('biplane.return_number'), job_id, queue_id, attempt, priority,
        case when rescues >= 3 then 2 else 1 end, rescues
    from (select * from settled where verdict = 'b' and coalesce(unique_while & 4 <> 0, true) order by place) s
), remembered as (
    insert into biplane.progress as p (job_id, kept)
    select job_id, remembers from settled where remembers is not null and verdict not in ('s', 'c', 'd')
    on conflict (job_id) do update set kept = excluded.kept
), forgotten as (
    delete from biplane.progress p using settled s where p.job_id = s.job_id and s.verdict in ('s', 'c', 'd')
), left_states as materialized (
    select job_id, kind_id, unique_key from settled
    where unique_while & case verdict when 'f' then 32 when 'r' then 8 when 'z' then 1 when 'w' then 16 when 'b' then 2
        else 0 end = 0
), told as (
    select job_id from settled
)
