, locked as materialized (
    -- Of jobs that leave the states in which they hold their keys. In the order in which keys are taken, so that nobody
    -- waits for each other.
    select c.kind_id, c.key, c.expires_at is null as bare
    from biplane.unique_claim c
        join left_states f on c.kind_id = f.kind_id and c.key = f.unique_key and c.job_id = f.job_id
    order by c.kind_id, c.key collate "C"
    for update of c
), held_on as (
    update biplane.unique_claim c set held = false
    from locked l where c.kind_id = l.kind_id and c.key = l.key and not l.bare
), let_go as (
    delete from biplane.unique_claim c
    using locked l where c.kind_id = l.kind_id and c.key = l.key and l.bare
)
select * from told order by 1
