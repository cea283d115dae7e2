//! What readers of committed records see at the end.

use std::fmt;

use rdkafka::Message as _;

use super::{KEYS, topic};
use crate::support::Cluster;

pub(super) fn key_of(number: usize) -> usize {
    number.wrapping_mul(2_654_435_761) % KEYS
}

/// One stage's part of it.
struct StageVerdict {
    name: &'static str,
    read: usize,
    passed: usize,
    dead: usize,
    faults: Faults,
    /// Offsets of the stage's outputs that no reader sees: aborted records and markers.
    unseen: i64,
}

/// What must not be.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Faults {
    pub(super) lost: usize,
    pub(super) repeated: usize,
    /// Records that came before an older one of their key.
    pub(super) disordered: usize,
}

pub(super) struct Verdict(Vec<StageVerdict>);

impl Verdict {
    pub(super) fn reach(cluster: &Cluster, records: usize) -> Self {
        let (first, passed) = look(cluster, "first", ["middle", "first-dlq"], &vec![true; records]);
        let (second, _) = look(cluster, "second", ["output", "second-dlq"], &passed);
        Self(vec![first, second])
    }

    pub(super) fn faults(&self) -> Faults {
        self.0.iter().fold(Faults::default(), |sum, StageVerdict { faults, .. }| Faults {
            lost: sum.lost + faults.lost,
            repeated: sum.repeated + faults.repeated,
            disordered: sum.disordered + faults.disordered,
        })
    }

    pub(super) fn dead_letters(&self) -> usize {
        self.0.iter().map(|stage| stage.dead).sum()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for StageVerdict { name, read, passed, dead, faults, unseen } in &self.0 {
            let Faults { lost, repeated, disordered } = faults;
            writeln!(
                f,
                "stage {name}: read {read}, wrote {passed} and {dead} dead letters, lost {lost}, \
                 repeated {repeated}, out of order {disordered}; aborted records and markers: {unseen}"
            )?;
        }
        Ok(())
    }
}

/// One stage's outputs, given which numbers it has read; also which it passed on.
fn look(
    cluster: &Cluster,
    name: &'static str,
    [output, dlq]: [&'static str; 2],
    read: &[bool],
) -> (StageVerdict, Vec<bool>) {
    let mut times = vec![0_usize; read.len()];
    let mut newest = vec![None; KEYS];
    let (mut passed, mut count, mut disordered) = (vec![false; read.len()], 0, 0);
    cluster.scan(&topic(output), |message| {
        let number = number(message);
        times[number] += 1;
        count += 1;
        if !std::mem::replace(&mut passed[number], true) {
            let before = newest[key_of(number)].replace(number);
            disordered += usize::from(before.is_some_and(|before| before > number));
        }
    });
    let mut dead = 0;
    cluster.scan(&topic(dlq), |message| {
        times[number(message)] += 1;
        dead += 1;
    });
    let wanted = read.iter().filter(|read| **read).count();
    let lost = times.iter().zip(read).filter(|(times, read)| **read && **times == 0).count();
    let repeated = times.iter().map(|times| times.saturating_sub(1)).sum();
    let spanned = cluster.written(&topic(output)) + cluster.written(&topic(dlq));
    let stage = StageVerdict {
        name,
        read: wanted,
        passed: count,
        dead,
        faults: Faults { lost, repeated, disordered },
        unseen: spanned - (count + dead) as i64,
    };
    (stage, passed)
}

/// The number in a record; its value begins with it.
fn number(message: &rdkafka::message::BorrowedMessage<'_>) -> usize {
    let value = message.payload().expect("a value").strip_prefix(b"{\"number\":").expect("a number");
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0'))
}
