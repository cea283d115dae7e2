//! What is finished so far beyond a parking partition's position that the text of a commit has no room for it.

use super::{Bed, DEADLINE, INTACT};
use crate::support::stub::reply;
use crate::support::{Cluster, Engine, wait_until};

/// Thousands of records are parked for an hour, and between them thousands for a moment. What becomes of the
/// latter far behind is written down in the topic, and a restart does none of it again. Without `write-done`
/// it does.
#[test]
fn what_is_finished_far_beyond_what_is_parked_is_not_done_again() {
    /// No text of a commit holds what is finished here and there among so many.
    const COUNT: usize = 25_500;
    const SHORT: usize = COUNT / 3;
    const LONG: usize = COUNT - SHORT;
    /// How much came out more than once.
    fn check(delivery: &str, without: &'static str) -> usize {
        let cluster = Cluster::shared();
        let keys = format!("concurrency = 64\ndelivery = \"{delivery}\"");
        let bed = Bed::answering(&cluster, 1, "100ms", &keys, |path, times, stream| match path {
            "/long" => reply(stream, "503 Service Unavailable\r\nRetry-After: 3600", ""),
            _ if times == 1 => reply(stream, "503 Service Unavailable", ""),
            _ => reply(stream, "200 OK", "{}"),
        });
        let bed = Bed { without, ..bed };
        let mut engine = bed.start_named(&cluster);
        let path = |number: usize| if number % 3 == 2 { format!("once-{number}") } else { "long".to_owned() };
        let paths: Vec<_> = (0..COUNT).map(path).collect();
        let records: Vec<_> =
            paths.iter().enumerate().map(|(number, path)| (format!("k{number}"), path.as_str(), 0)).collect();
        bed.produce(&cluster, &records);
        let parked = |engine: &Engine| engine.metric("biplane_stage_parked_records", &["bed"]);
        let out = || cluster.read_all(&bed.topic("output")).len();
        let settled = |engine: &Engine| bed.is_done(&cluster) && parked(engine) == LONG as f64;
        wait_until("all but what waits is out", 3 * DEADLINE, || settled(&engine) && out() == SHORT);
        assert!(engine.terminate(DEADLINE).success(), "{}", engine.log());
        let engine = bed.start_named(&cluster);
        wait_until("what waits is known again", DEADLINE, || parked(&engine) >= LONG as f64);
        bed.produce(&cluster, &[("last".to_owned(), "once-last", 0)]);
        wait_until("the last is out", DEADLINE, || bed.out(&cluster).contains_key("last"));
        wait_until("nothing else is parked", DEADLINE, || settled(&engine));
        out() - SHORT - 1
    }
    assert_eq!(check("exactly-once", INTACT), 0);
    #[cfg(debug_assertions)]
    assert!(check("at-least-once", "write-done") > 0);
}
