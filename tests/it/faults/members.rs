//! Members of a group that come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use super::{Bed, DEADLINE, INTACT, numbers};
use crate::support::stub::{Stub, reply};
use crate::support::{Cluster, Message, wait_until};

/// How a guest leaves.
#[derive(Debug, Clone, Copy)]
enum Leave {
    /// By SIGTERM while records flow.
    Stopped,
    /// By SIGKILL while records flow.
    Killed,
    /// By SIGTERM, once all of its round is committed.
    Done,
}

/// What came of a churn of members.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    lost: usize,
    /// First occurrences that came before an older one of their key.
    disordered: usize,
    /// Records of rounds that nothing interrupted and that came twice all the same.
    repeated: usize,
}

/// Members come and go; each key's first occurrences stay in order, nothing is lost, and where all was
/// committed before a hand-over, nothing repeats. Without `abandon` the one that lost a partition goes
/// on with it, beside its new owner.
#[test]
fn members_that_join_and_leave_all_the_time_lose_nothing_and_keep_the_order() {
    use Leave::{Done, Killed, Stopped};
    let good = Found { lost: 0, disordered: 0, repeated: 0 };
    assert_eq!(churn(5_000, &[Stopped, Killed, Done, Stopped, Done], INTACT), good);
    #[cfg(debug_assertions)]
    assert_ne!(churn(1_000, &[Done], "abandon"), good);
}

fn churn(each: i64, rounds: &[Leave], without: &'static str) -> Found {
    const KEYS: i64 = 40;
    let cluster = Cluster::shared();
    let stage = "[STAGE]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\ncommit_interval = \"100ms\"\n";
    let bed = Bed::new(&cluster, 4, stage, without);
    let steady = bed.start(&cluster);
    let committed = |wanted: i64| {
        wait_until("all is committed", DEADLINE, || bed.committed(&cluster) >= wanted);
    };
    let produce = |round: i64| {
        let records: Vec<_> = (round * each..(round + 1) * each)
            .map(|number| Message::json(format!("key-{}", number % KEYS), &json!({"number": number})))
            .collect();
        cluster.produce(&bed.topic("input"), &records);
    };
    // Nobody is a guest in round 0.
    produce(0);
    for (round, leave) in (1i64..).zip(rounds) {
        committed(round * each);
        let mut guest = bed.start(&cluster);
        produce(round);
        match leave {
            Leave::Done => committed((round + 1) * each),
            _ => wait_until("some of this round is out", DEADLINE, || {
                cluster.count(&bed.topic("output")) > round * each + 500
            }),
        }
        match leave {
            Leave::Killed => guest.kill(),
            _ => assert!(guest.terminate(Duration::from_secs(20)).success(), "{}", guest.log()),
        }
    }
    let total = each * (rounds.len() as i64 + 1);
    committed(total);
    let mut found = Found { lost: 0, disordered: 0, repeated: 0 };
    let (mut newest, mut seen) = (BTreeMap::new(), BTreeSet::new());
    for number in numbers(&cluster.read_all(&bed.topic("output"))) {
        if seen.insert(number) {
            let before = newest.insert(number % KEYS, number);
            found.disordered += usize::from(before.is_some_and(|before| before > number));
        } else if number < each || matches!(rounds[(number / each) as usize - 1], Leave::Done) {
            found.repeated += 1;
        }
    }
    found.lost = total as usize - seen.len();
    if found.lost > 0 {
        eprintln!("{}", steady.log());
    }
    found
}

/// Work hangs in a step while the group changes. What goes to the other engine is abandoned here and
/// done there; what comes back in the same rebalance goes on where it stood and is asked for once.
/// Without `abandon` what was lost is done twice; without `keep` what came back is.
#[test]
fn a_rebalance_abandons_what_is_lost_and_neither_loses_nor_repeats_what_comes_back() {
    const PARTITIONS: i32 = 4;
    /// How often each record was asked for, and how many came out.
    fn check(without: &'static str) -> (Vec<usize>, i64) {
        let cluster = Cluster::shared();
        let released = Arc::new(AtomicBool::new(false));
        let release = Arc::clone(&released);
        let stub = Stub::start(move |_, stream| {
            let (_keep, wait) = std::sync::mpsc::channel::<()>();
            while !released.load(Ordering::Acquire) {
                let _ = wait.recv_timeout(Duration::from_millis(20));
            }
            reply(stream, "200 OK", "{}");
        });
        let stage = format!(
            "[http_clients.stub]\nbase_url = \"{}\"\ntimeout = \"80s\"\n\n[STAGE]\nfrom = \"input\"\n\
             to = \"output\"\ndlq = \"dead\"\n\n[[STAGE.steps]]\nhttp.client = \"stub\"\n\
             http.path = \"/{{{{ value.partition }}}}\"\n",
            stub.url()
        );
        let bed = Bed::new(&cluster, PARTITIONS, &stage, without);
        let records: Vec<_> = (0..PARTITIONS)
            .map(|partition| Message::json("k", &json!({"partition": partition})).at(partition))
            .collect();
        cluster.produce(&bed.topic("input"), &records);
        let mut first = bed.start(&cluster);
        wait_until("each record hangs in its step", DEADLINE, || stub.asked() == PARTITIONS as usize);
        let mut second = bed.start(&cluster);
        // `range` leaves two of the four with the first; the second asks anew for the two it was given.
        wait_until("the second engine has taken over its share", DEADLINE, || {
            stub.asked() >= PARTITIONS as usize + 2
        });
        release.store(true, Ordering::Release);
        wait_until("all is committed", DEADLINE, || bed.committed(&cluster) == i64::from(PARTITIONS));
        for engine in [&mut first, &mut second] {
            assert!(engine.terminate(Duration::from_secs(20)).success(), "{}", engine.log());
        }
        let mut asked: Vec<_> = stub.by_path().into_values().collect();
        asked.sort_unstable();
        (asked, cluster.count(&bed.topic("output")))
    }
    assert_eq!(check(INTACT), (vec![1, 1, 2, 2], 4));
    #[cfg(debug_assertions)]
    {
        let (_, out) = check("abandon");
        assert!(out > 4, "{out}");
        let (asked, _) = check("keep");
        assert_eq!(asked, [2, 2, 2, 2]);
    }
}
