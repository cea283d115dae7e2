//! A switch for tests alone: it leaves one guard out, so that the test of a fault can show that the
//! guard is what it rests on.
//!
//! `BIPLANE_TEST_WITHOUT` names guards, separated by commas, in builds with debug assertions; a test in
//! this process leaves one out for the threads it starts with [`without`]. In a release build every
//! guard stands and the question is a constant. Each guard is asked for in one place.

/// What keeps a promise under one fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Guard {
    /// Connections that break are ridden out; without it they halt the stage.
    RideOut,
    /// What a failed commit said is said again.
    CommitAgain,
    /// A partition that went to another member is abandoned.
    Abandon,
    /// A partition that comes back in the same rebalance goes on where it stood.
    Keep,
    /// A record is finished once its outputs are acknowledged; without it, once they are sent.
    Acknowledgement,
    /// A stop waits for what is in flight.
    Drain,
    /// The offset committed is the one before which all is finished; without it, the newest finished.
    Contiguous,
    /// A record waits for the one before it in its lane.
    Lanes,
    /// No send times out singly.
    EndlessSends,
    /// What is in flight is bounded.
    Window,
    /// After a fatal error of the producer its partitions are read again.
    Rewind,
    /// An exhausted record is finished once its dead letter is acknowledged; without it, unwritten.
    DeadLetter,
    /// Attempts spent are committed.
    Attempts,
    /// The next attempt waits until the ones before it are committed.
    AttemptGate,
    /// Offsets that do not exist are not waited for.
    Gaps,
    /// An HTTP request has one deadline over its whole answer.
    HttpDeadline,
    /// An HTTP answer's body is capped.
    BodyCap,
    /// An expression's work is capped.
    Fuel,
    /// An expression's result is capped.
    OutputCap,
    /// The codes that have a series of their own are capped.
    CodeBound,
    /// A log line that repeats is held back.
    LogLimit,
    /// A panic inside a step fails its record only.
    CatchPanic,
    /// A replay's cursor is committed as it goes.
    ReplayCursor,
    /// A stage pauses while a system that its steps ask is down.
    Breaker,
    /// A stage halts where too many of its records fail for good.
    Flood,
    /// A stage whose transactional id a newer engine has taken stops for good.
    Fence,
    /// Where it is not known whether a transaction was committed, the group's commits are read again.
    ReadAnew,
    /// What a transaction holds of partitions that go to others is aborted.
    GiveUp,
    /// A consumer that gives nothing of what is there is replaced.
    Watchdog,
    /// A span that finds no room is dropped; without it, its record waits.
    SpanQueue,
    /// An offset that is gone is an error; without it, reading goes on behind the newest record.
    LostOffset,
    /// A stop waits for what is in flight no longer than `drain`.
    DrainLimit,
    /// A mark says nothing of its own record.
    MarkOrigin,
    /// A record that fails for good takes its mark back.
    TakeBack,
    /// Where a stage's offset is set back, marks from there on are forgotten.
    MarksBefore,
    /// Marks whose topic was deleted are written again.
    MarksAgain,
    /// A record of a parked key is parked behind it.
    Follow,
    /// What is parked is known before the inputs are read.
    ScanFirst,
    /// Where parked records are not where they were parked, the stage halts.
    Missing,
    /// What is finished of a parking topic beyond a commit's text is written down in the topic.
    WriteDone,
    /// After a loss nobody waits for what is in flight, and nothing is committed.
    Lost,
    /// Outcomes are written only by the lease that holds the job.
    Lease,
    /// A claim whose answer is lost is asked for.
    AskForBatch,
    /// Heartbeats have a thread and a connection of their own.
    HeartbeatThread,
    /// What leases past their deadline hold is taken back.
    Rescue,
    /// What runs is cancelled before its lease can have ended.
    AbortLost,
    /// Outcomes that could not be written are sent again.
    AckAgain,
    /// An idle queue looks for work though it would be told of it.
    PollAnyway,
    /// Claims of a queue with limits wait for each other.
    OneTurn,
    /// A callback that comes before its job waits is found as it does.
    EarlyCallback,
    /// Who waits for a server without a connection to spare takes one that is given back.
    TakeIdle,
    /// A pool gives up a connection for heartbeats where the server has none for them.
    YieldToBeats,
    /// A claim that failed is tried again; without it, it is the last of its queue.
    ClaimAgain,
    /// Whether a lease has ended is decided by the database's clock; without it, by this machine's.
    DatabaseClock,
    /// A migration does not wait long for a table that somebody holds.
    LockTimeout,
    /// What a step enqueued for a record is known to the run that follows.
    EnqueueOnce,
    /// A partition moves in the database that a stage writes only from where it stands.
    CompareAndSet,
    /// Events of jobs that are done are sent.
    Relay,
}

#[cfg(not(debug_assertions))]
mod switch {
    use super::Guard;

    /// Whether a test has left `guard` out: never, in a release build.
    #[inline(always)]
    pub const fn removed(_: Guard) -> bool {
        false
    }

    const _: () = assert!(!removed(Guard::Contiguous), "known when this is compiled");

    /// What this thread hands on to one that it starts: nothing.
    #[derive(Debug, Clone, Copy)]
    pub struct Inherited;

    /// See [`Inherited`].
    pub const fn inherited() -> Inherited {
        Inherited
    }

    /// Runs `work`, with every guard.
    pub fn without<T>(_: Guard, work: impl FnOnce() -> T) -> T {
        work()
    }

    impl Inherited {
        /// Does nothing.
        pub const fn adopt(self) {}
    }
}

#[cfg(debug_assertions)]
mod switch {
    use std::cell::Cell;
    use std::sync::OnceLock;

    use super::Guard;

    const NAMES: &[(&str, Guard)] = &[
        ("ride-out", Guard::RideOut),
        ("commit-again", Guard::CommitAgain),
        ("abandon", Guard::Abandon),
        ("keep", Guard::Keep),
        ("acknowledgement", Guard::Acknowledgement),
        ("drain", Guard::Drain),
        ("contiguous", Guard::Contiguous),
        ("lanes", Guard::Lanes),
        ("endless-sends", Guard::EndlessSends),
        ("window", Guard::Window),
        ("rewind", Guard::Rewind),
        ("dead-letter", Guard::DeadLetter),
        ("attempts", Guard::Attempts),
        ("attempt-gate", Guard::AttemptGate),
        ("gaps", Guard::Gaps),
        ("http-deadline", Guard::HttpDeadline),
        ("body-cap", Guard::BodyCap),
        ("fuel", Guard::Fuel),
        ("output-cap", Guard::OutputCap),
        ("code-bound", Guard::CodeBound),
        ("log-limit", Guard::LogLimit),
        ("catch-panic", Guard::CatchPanic),
        ("replay-cursor", Guard::ReplayCursor),
        ("breaker", Guard::Breaker),
        ("flood", Guard::Flood),
        ("fence", Guard::Fence),
        ("read-anew", Guard::ReadAnew),
        ("give-up", Guard::GiveUp),
        ("watchdog", Guard::Watchdog),
        ("span-queue", Guard::SpanQueue),
        ("lost-offset", Guard::LostOffset),
        ("drain-limit", Guard::DrainLimit),
        ("mark-origin", Guard::MarkOrigin),
        ("take-back", Guard::TakeBack),
        ("marks-before", Guard::MarksBefore),
        ("marks-again", Guard::MarksAgain),
        ("follow", Guard::Follow),
        ("scan-first", Guard::ScanFirst),
        ("missing", Guard::Missing),
        ("write-done", Guard::WriteDone),
        ("lost", Guard::Lost),
        ("lease", Guard::Lease),
        ("ask-for-batch", Guard::AskForBatch),
        ("heartbeat-thread", Guard::HeartbeatThread),
        ("rescue", Guard::Rescue),
        ("abort-lost", Guard::AbortLost),
        ("ack-again", Guard::AckAgain),
        ("poll-anyway", Guard::PollAnyway),
        ("one-turn", Guard::OneTurn),
        ("early-callback", Guard::EarlyCallback),
        ("take-idle", Guard::TakeIdle),
        ("yield-to-beats", Guard::YieldToBeats),
        ("claim-again", Guard::ClaimAgain),
        ("database-clock", Guard::DatabaseClock),
        ("lock-timeout", Guard::LockTimeout),
        ("enqueue-once", Guard::EnqueueOnce),
        ("compare-and-set", Guard::CompareAndSet),
        ("relay", Guard::Relay),
    ];

    thread_local! {
        static HERE: Cell<u64> = const { Cell::new(0) };
    }

    /// Whether a test has left `guard` out.
    pub fn removed(guard: Guard) -> bool {
        static NAMED: OnceLock<u64> = OnceLock::new();
        let named = NAMED.get_or_init(|| parse(&std::env::var("BIPLANE_TEST_WITHOUT").unwrap_or_default()));
        (named | HERE.get()) & bit(guard) != 0
    }

    /// What this thread hands on to one that it starts: the guards that it does without.
    #[derive(Debug, Clone, Copy)]
    pub struct Inherited(u64);

    /// See [`Inherited`].
    pub fn inherited() -> Inherited {
        Inherited(HERE.get())
    }

    impl Inherited {
        /// This thread does without the same guards.
        pub fn adopt(self) {
            HERE.set(self.0);
        }
    }

    /// Runs `work` without `guard`, on this thread and on those that inherit from it.
    pub fn without<T>(guard: Guard, work: impl FnOnce() -> T) -> T {
        let before = HERE.replace(HERE.get() | bit(guard));
        let result = work();
        HERE.set(before);
        result
    }

    fn parse(names: &str) -> u64 {
        let known = |name: &str| NAMES.iter().find(|(known, _)| *known == name).map(|(_, guard)| bit(*guard));
        names.split(',').filter_map(|name| known(name.trim())).fold(0, |all, one| all | one)
    }

    const fn bit(guard: Guard) -> u64 {
        1 << guard as u8
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn each_guard_has_one_name_and_a_bit_of_its_own() {
            let all = NAMES.iter().fold(0, |all, (name, guard)| {
                assert_eq!(parse(name), bit(*guard), "{name}");
                all + bit(*guard)
            });
            assert_eq!(all, (1 << NAMES.len()) - 1);
            assert_eq!(parse("fuel, window ,unheard-of"), bit(Guard::Fuel) | bit(Guard::Window));
        }

        #[test]
        fn a_thread_that_inherits_does_without_the_same_guards_and_no_other_does() {
            let ask = || removed(Guard::Rewind);
            let (adopted, fresh) = without(Guard::Rewind, || {
                let handed = inherited();
                let adopting = std::thread::spawn(move || {
                    handed.adopt();
                    ask()
                });
                (adopting.join().unwrap(), std::thread::spawn(ask).join().unwrap())
            });
            assert!(adopted && !fresh && !ask());
        }
    }
}

pub use switch::{Inherited, inherited, removed, without};
