//! What the topics show at the end. A few bytes a record are kept, whatever a record holds.

use rdkafka::Message as _;
use rdkafka::message::{BorrowedMessage, Headers as _};

use super::evidence::{Evidence, STAGES};
use super::{KEYS, Run};

/// What came of a run.
pub(super) struct Verdict {
    pub(super) stages: Vec<StageVerdict>,
    /// How many records failed once and passed.
    pub(super) retried: usize,
}

/// What must not be.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Faults {
    pub(super) lost: usize,
    pub(super) disordered: usize,
    /// Repeats that no kill left open.
    pub(super) unpermitted: usize,
}

/// One stage's part of it.
pub(super) struct StageVerdict {
    pub(super) name: &'static str,
    pub(super) read: usize,
    pub(super) written: usize,
    pub(super) dead: usize,
    pub(super) lost: usize,
    pub(super) disordered: usize,
    pub(super) unpermitted: usize,
    /// How many records each kill left written and not committed.
    pub(super) open: Vec<usize>,
    /// How many of them the life behind it wrote again.
    pub(super) repeated: Vec<usize>,
}

impl Verdict {
    pub(super) fn reach(run: &Run, evidence: &Evidence) -> Self {
        let stages = STAGES.map(|(name, input, outputs)| Look::new(run, evidence, name, input).at(outputs));
        Self { stages: stages.into(), retried: 0 }
    }

    pub(super) fn faults(&self) -> Faults {
        let sum = |part: fn(&StageVerdict) -> usize| self.stages.iter().map(part).sum();
        Faults {
            lost: sum(|stage| stage.lost),
            disordered: sum(|stage| stage.disordered),
            unpermitted: sum(|stage| stage.unpermitted),
        }
    }

    pub(super) fn dead_letters(&self) -> usize {
        self.stages.iter().map(|stage| stage.dead).sum()
    }
}

/// The look at one stage.
struct Look<'a> {
    run: &'a Run,
    evidence: &'a Evidence,
    /// By partition and offset of the input: the lives that wrote it first and last, from 1; 0: none.
    lives: Vec<Vec<(u8, u8)>>,
    /// The numbers that have come out.
    known: Vec<bool>,
    /// The newest number of each key.
    newest: Vec<i64>,
    found: StageVerdict,
}

impl<'a> Look<'a> {
    fn new(run: &'a Run, evidence: &'a Evidence, name: &'static str, input: &str) -> Self {
        let ends = run.cluster.end_offsets(&run.topic(input));
        let lives: Vec<_> = ends.values().map(|end| vec![(0, 0); *end as usize]).collect();
        let found = StageVerdict {
            name,
            read: lives.iter().map(Vec::len).sum(),
            written: 0,
            dead: 0,
            lost: 0,
            disordered: 0,
            unpermitted: 0,
            open: vec![0; evidence.kills()],
            repeated: vec![0; evidence.kills()],
        };
        let known = vec![false; run.setup.records];
        Self { run, evidence, lives, known, newest: vec![-1; KEYS], found }
    }

    fn at(mut self, outputs: [&'static str; 2]) -> StageVerdict {
        for topic in outputs {
            let dead = topic.ends_with("dlq");
            self.run.cluster.scan(&self.run.topic(topic), |message| {
                self.place(topic, message);
                if dead {
                    self.found.dead += 1;
                } else {
                    self.order(message);
                }
            });
        }
        self.found.lost = self.lives.iter().flatten().filter(|(first, _)| *first == 0).count();
        for kill in 0..self.evidence.kills() {
            self.found.open[kill] = self.left_open(kill);
        }
        self.found
    }

    /// Finds the input record that a written one came from, and whether it may have come again.
    fn place(&mut self, topic: &'static str, message: &BorrowedMessage<'_>) {
        self.found.written += 1;
        let (partition, offset) = origin(message);
        let life = self.evidence.life(topic, message.partition(), message.offset());
        let (first, last) = &mut self.lives[partition as usize][offset as usize];
        let before = std::mem::replace(last, life as u8 + 1);
        if before == 0 {
            *first = life as u8 + 1;
            return;
        }
        let stage = self.found.name;
        // A life that repeats what it wrote itself was not made to by a kill.
        let permitted =
            usize::from(before) <= life && self.evidence.left_open(life - 1, stage, partition, offset);
        match permitted {
            true => self.found.repeated[life - 1] += 1,
            false => self.found.unpermitted += 1,
        }
    }

    /// The first occurrences of a key must rise.
    fn order(&mut self, message: &BorrowedMessage<'_>) {
        let number = number(message);
        if !std::mem::replace(&mut self.known[number], true) {
            let newest = &mut self.newest[usize::from(self.run.keys[number])];
            self.found.disordered += usize::from(*newest > number as i64);
            *newest = (*newest).max(number as i64);
        }
    }

    /// How many records were written before that kill and not committed at it.
    fn left_open(&self, kill: usize) -> usize {
        let open = |partition: usize, offset: usize| {
            self.evidence.left_open(kill, self.found.name, partition as i32, offset as i64)
        };
        let lives = self.lives.iter().enumerate();
        let by_partition = lives.map(|(partition, lives)| {
            let written = lives
                .iter()
                .enumerate()
                .filter(|(_, (first, _))| *first > 0 && usize::from(*first) <= kill + 1);
            written.filter(|(offset, _)| open(partition, *offset)).count()
        });
        by_partition.sum()
    }
}

/// The partition and offset in the id of a written record: `stage/topic/partition/offset/index`. A dead
/// letter has the id of its record's own origin beside its own.
fn origin(message: &BorrowedMessage<'_>) -> (i32, i64) {
    let headers = message.headers().expect("headers");
    let named = |name: &str| headers.iter().filter(|header| header.key == name).last();
    let id = named("biplane-dlq-id").or_else(|| named("biplane-id")).expect("an id");
    let id = std::str::from_utf8(id.value.expect("a value")).expect("text");
    let mut parts = id.rsplit('/').skip(1);
    let offset = parts.next().and_then(|offset| offset.parse().ok()).expect("an offset");
    (parts.next().and_then(|partition| partition.parse().ok()).expect("a partition"), offset)
}

/// The number of a record; its value begins with it.
fn number(message: &BorrowedMessage<'_>) -> usize {
    let value = message.payload().expect("a value").strip_prefix(b"{\"number\":").expect("a number");
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0'))
}
