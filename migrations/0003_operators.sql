-- What operators ask of jobs that run, and finding one job among those that came back.
-- oldest-engine: 1

-- Who runs such a job is asked to end it. One that has not ended by `fence_at` is taken from its worker.
create table biplane.cancel_ask (
    job_id bigint primary key,
    epoch bigint not null,
    fence_at timestamptz not null,
    actor text not null
);

-- New jobs are found by their own number in `ready_order`; those that come back bear another.
create index ready_back on biplane.ready (job_id) where lane > 0;
