//! What became of all jobs, read from the tables.

use std::fmt;

use super::{LONG_EVERY, RATE, Run};
use crate::support::TestDatabase;

/// What must not be. Zero everywhere is good.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Faults {
    /// Acknowledged to whoever enqueued them, and not there.
    pub(super) lost: usize,
    /// Without an outcome.
    pub(super) unended: usize,
    /// Outcomes beyond the first of a job.
    pub(super) twice: usize,
    /// Outcomes of another sort than the kind gives.
    pub(super) wrong: usize,
    /// Keys that two jobs held at one time, at any look.
    pub(super) overlaps: usize,
    /// Limits that more jobs ran under than they let, at any look, and jobs that started sooner than a rate lets them.
    pub(super) overshot: usize,
    /// Keys that are still held.
    pub(super) held: usize,
    /// Workers that stopped in order and did not leave.
    pub(super) stayed: usize,
}

/// One run's.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) faults: Faults,
    /// Jobs that were made.
    pub(super) made: usize,
    succeeded: usize,
    pub(super) failed: usize,
    /// Jobs that needed more than one attempt.
    pub(super) retried: usize,
    /// Requests of jobs of kind `long` beyond one each.
    repeated: usize,
}

/// How many keys more than one live job holds. One statement, hence one moment.
pub(super) fn overlaps(server: &TestDatabase) -> usize {
    number(
        server,
        "select count(*) from (
            select j.unique_key from (
                select job_id from biplane.ready union all select job_id from biplane.deferred
                union all select unnest(job_ids) from biplane.lease
            ) live join biplane.job j on j.id = live.job_id
            where j.unique_key is not null group by j.unique_key having count(*) > 1) k",
    )
}

/// How many limits of the queue `limited` are exceeded by what leases hold now.
pub(super) fn overshot(server: &TestDatabase) -> usize {
    number(
        server,
        "with running as (
            select j.args ->> 'key' as key from biplane.lease l join biplane.queue q on q.id = l.queue_id
                cross join lateral unnest(l.job_ids) as held (job) join biplane.job j on j.id = held.job
            where q.name = 'limited'
        )
        select (select count(*) from (select from running group by key having count(*) > 1) k)
            + case when (select count(*) from running) > 6 then 1 else 0 end",
    )
}

fn number(server: &TestDatabase, sql: &str) -> usize {
    server.value(sql).parse().expect("a number")
}

/// By how many more than its rate lets jobs of kind `paced` ended, from when the first was enqueued to the end of all. What a tenth of a second
/// brings, and one more, may start at once.
fn too_fast(server: &TestDatabase) -> usize {
    let at_once = 1 + RATE / 10;
    number(
        server,
        &format!(
            "select greatest(0, ceil(count(*) - {at_once}
                - {RATE} * coalesce(extract(epoch from max(done_at) - biplane.job_created_at(min(job_id))), 0)))
            from biplane.done d join biplane.kind k on k.id = d.kind_id where k.name = 'paced'"
        ),
    )
}

/// Every outcome: of which job, which kind, and how.
const ENDED: &str = "(select job_id, kind_id, attempt, outcome::text from biplane.done
    union all select job_id, kind_id, attempt, 'f' from biplane.failed) e join biplane.kind k on k.id = e.kind_id";

impl Verdict {
    pub(super) fn reach(run: &Run) -> Self {
        let server = &run.server;
        let count = |sql: &str| number(server, sql);
        let put = run.put.iter().map(|id| id.0.to_string()).collect::<Vec<_>>().join(",");
        let long = "select count(*) from biplane.job j join biplane.kind k on k.id = j.kind_id where k.name in ('long', 'limited')";
        let faults = Faults {
            lost: count(&format!(
                "select count(*) from unnest('{{{put}}}'::bigint[]) n where not exists (select from biplane.job where id = n)"
            )),
            unended: count(
                "select count(*) from biplane.job j where not exists (select from biplane.done d where d.job_id = j.id)
                    and not exists (select from biplane.failed f where f.job_id = j.id)",
            ),
            twice: count(&format!("select count(*) - count(distinct job_id) from {ENDED}")),
            wrong: count(&format!(
                "select count(*) from {ENDED} where outcome <> case k.name when 'doomed' then 'f' else 's' end
                    or attempt < case k.name when 'doomed' then 2 when 'flaky' then 3 else 1 end"
            )),
            overlaps: run.overlaps,
            overshot: run.overshot + too_fast(server),
            held: count("select count(*) from biplane.unique_claim"),
            stayed: count("select count(*) from biplane.worker where heartbeat_at > now() - interval '2 seconds'"),
        };
        Self {
            faults,
            made: count("select count(*) from biplane.job"),
            succeeded: count("select count(*) from biplane.done where outcome = 's'"),
            failed: count("select count(*) from biplane.failed"),
            retried: count(&format!("select count(*) from {ENDED} where attempt > 1")),
            repeated: run.service.asked().saturating_sub(count(long)),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { faults, succeeded, failed, retried, repeated, .. } = self;
        let Faults { lost, unended, twice, wrong, overlaps, overshot, held, stayed } = faults;
        writeln!(f, "succeeded {succeeded}, failed for good {failed}, tried more than once {retried}")?;
        writeln!(
            f,
            "of the jobs that ask a service (two in {LONG_EVERY}) ran again after a kill: {repeated}"
        )?;
        writeln!(
            f,
            "lost {lost}, without an outcome {unended}, with two {twice}, with a wrong one {wrong}, keys held by two \
             {overlaps}, limits overshot {overshot}, keys still held {held}, workers that stayed {stayed}"
        )
    }
}
