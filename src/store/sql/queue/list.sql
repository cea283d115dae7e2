select q.name, extract(epoch from now() - q.paused_at)::float8 as paused_for, q.paused_by, q.pause_reason,
    (select count(*) from biplane.ready r where r.queue_id = q.id) as queued,
    (select count(*) from biplane.deferred d where d.queue_id = q.id) as deferred,
    (select coalesce(sum(cardinality(l.job_ids)), 0)::bigint from biplane.lease l where l.queue_id = q.id) as running,
    (select count(*) from biplane.failed f where f.queue_id = q.id) as failed,
    q.global_concurrency, q.per_key, array_to_string(array['args'] || q.turns_by, '.') as key, q.rate, k.running as keys,
    k.at_limit as keys_at_limit, floor(biplane.tokens_now(q.rate, t.tokens, t.refilled_at)) as may_start
from biplane.queue q
    left join biplane.queue_turn t on t.queue_id = q.id
    cross join lateral (
        select count(*) as running, count(*) filter (where c.jobs >= q.per_key) as at_limit
        from (
            select count(*) as jobs
            from biplane.lease l cross join lateral unnest(l.claimed, l.keys) as n (job_id, key)
            where l.queue_id = q.id and l.turn is not null and n.job_id = any (l.job_ids)
            group by n.key
        ) c
    ) k
order by q.name
