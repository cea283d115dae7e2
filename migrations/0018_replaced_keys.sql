-- A job that takes other args waits under their key.
-- oldest-engine: 1

-- Gives a job that waits to run other args, or makes it due at another time. False: it does not wait. What waits is
-- locked before any key, as claims and promotions do it, so that nobody waits for each other.
create or replace function biplane.change_waiting(holder bigint, conflict text, other jsonb, due timestamptz) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    place tid;
begin
    -- What is due later moves on to what is due, so it is looked for in this order.
    perform from biplane.deferred d where d.job_id = holder for update;
    if found then
        if conflict = 'push-back' then
            -- A retry waits at least as long as its policy says.
            update biplane.deferred d
            set run_at = case d.reason when 'r' then greatest(d.run_at, due) else due end
            where d.job_id = holder;
        else
            update biplane.job j set args = other where j.id = holder;
        end if;
        return true;
    end if;
    select r.ctid into place from biplane.ready r
    where r.queue_id = (select j.queue_id from biplane.job j where j.id = holder) and r.lane = 0 and r.priority = any ('{1,2,3,4,5,6,7,8,9}') and r.seq = holder
    for update;
    if not found then
        select r.ctid into place from biplane.ready r where r.job_id = holder and r.lane > 0 for update;
        if not found then
            return false;
        end if;
    end if;
    if conflict = 'replace-args' then
        update biplane.job j set args = other where j.id = holder;
        -- A claim that began before this one committed has the old args: it passes over a row that is new to it.
        update biplane.ready r set key_hash = case when r.key_hash is not null then biplane.turn_key(q.turns_by, other) end
        from biplane.queue q where q.id = r.queue_id and r.ctid = place;
    elsif due > clock_timestamp() then
        with gone as (
            delete from biplane.ready r where r.ctid = place returning r.job_id, r.queue_id, r.attempt, r.priority
        )
        insert into biplane.deferred (job_id, run_at, queue_id, attempt, priority, reason)
        select g.job_id, due, g.queue_id, g.attempt, g.priority, case when g.attempt = 1 then 's' else 'z' end::"char"
        from gone g;
    end if;
    return true;
end
$$;
