//! What may become of a job: one function a transition, from where a job stands to where it stands then.
//!
//! Pure: times are the database's, spans of time are added to its clock by whoever writes the row, and the
//! random number of a backoff is the caller's. A transition that makes no sense is refused and changes
//! nothing, so a writer that lost its lease cannot bring a job back from its end.

use std::fmt;
use std::time::Duration;

use crate::base::{Failure, RetryPolicy};

/// How many deaths of its worker a job survives before one spends an attempt. From then on it is claimed
/// alone, so that a job that kills its worker does not burn its neighbours.
pub const RESCUES: u32 = 3;

/// Where a job is, as an operator sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Due later.
    Scheduled,
    /// Due, and nobody has it.
    Queued,
    /// In somebody's lease.
    Running,
    /// Due later, after a failure.
    Retrying,
    /// For a callback, until a deadline.
    Waiting,
    /// Exhausted, and kept until an operator decides.
    Failed,
    /// Done.
    Succeeded,
    /// Ended before it was done, on purpose.
    Cancelled,
    /// A failed job that an operator gave up.
    Discarded,
}

impl State {
    /// All states, in the order in which the documentation lists them.
    pub const ALL: [Self; 9] = [
        Self::Scheduled,
        Self::Queued,
        Self::Running,
        Self::Retrying,
        Self::Waiting,
        Self::Failed,
        Self::Succeeded,
        Self::Cancelled,
        Self::Discarded,
    ];

    /// The word in TOML, SQL and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
            Self::Succeeded => "succeeded",
            Self::Cancelled => "cancelled",
            Self::Discarded => "discarded",
        }
    }

    /// The state of that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Whether nothing happens to the job any more unless an operator wants it.
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Cancelled | Self::Discarded)
    }

    /// Whether something is to happen at a moment.
    pub const fn has_moment(self) -> bool {
        matches!(self, Self::Scheduled | Self::Retrying | Self::Waiting)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A moment by the database's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Due {
    /// That long after the transition is written.
    After(Duration),
    /// At that moment, in milliseconds since the Unix epoch.
    At(i64),
}

/// Why a job was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cancelled {
    /// Somebody asked for it.
    Asked,
    /// Nobody had started it by the time at which it expires.
    Expired,
    /// It came back and met another holder of its unique key.
    Superseded,
}

impl Cancelled {
    /// The word in SQL and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Expired => "expired",
            Self::Superseded => "superseded",
        }
    }
}

/// Where one job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Its state.
    pub state: State,
    /// How many attempts are spent; the one that runs is not among them.
    pub attempts: u32,
    /// How many workers died of it since its last attempt came to an end of its own; at most [`RESCUES`].
    pub rescues: u32,
    /// Whether it was ever claimed and not handed back untouched.
    pub started: bool,
    /// When it is due (`scheduled`, `retrying`), or how long it waits at most (`waiting`); in no other state.
    pub due: Option<Due>,
    /// Why, where it is cancelled; in no other state.
    pub cancelled: Option<Cancelled>,
}

impl Standing {
    const fn new(state: State) -> Self {
        Self { state, attempts: 0, rescues: 0, started: false, due: None, cancelled: None }
    }

    /// The number of the attempt that runs or comes next; counts from 1.
    pub const fn attempt(&self) -> u32 {
        self.attempts.saturating_add(1)
    }

    /// Whether it must have a lease of its own.
    pub const fn runs_alone(&self) -> bool {
        self.rescues >= RESCUES
    }

    fn to(self, state: State) -> Self {
        Self { state, due: None, cancelled: None, ..self }
    }

    fn due(self, state: State, due: Due) -> Self {
        Self { due: Some(due), ..self.to(state) }
    }

    fn from(self, event: Event, states: &[State]) -> Result<Self, Refused> {
        if states.contains(&self.state) { Ok(self) } else { Err(Refused { state: self.state, event }) }
    }
}

/// What may happen to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// It becomes due.
    Promote,
    /// A worker takes it.
    Claim,
    /// Its last step ended.
    Succeed,
    /// An attempt failed.
    Fail,
    /// It asks to be run later.
    Snooze,
    /// It waits for a callback.
    Wait,
    /// The callback came.
    Callback,
    /// The callback did not come in time.
    CallbackMissed,
    /// Its worker is dead.
    Rescue,
    /// Its worker gives it back untouched.
    HandBack,
    /// Somebody wants it gone.
    Cancel,
    /// It expires.
    Expire,
    /// An operator gives it up.
    Discard,
    /// An operator wants it run now.
    RetryNow,
    /// An operator wants it run later.
    Postpone,
    /// Another job holds its unique key.
    Superseded,
}

/// A transition that makes no sense where the job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a {state} job cannot take {event:?}")]
pub struct Refused {
    /// Where it stands.
    pub state: State,
    /// What should have happened.
    pub event: Event,
}

/// How often a job is tried.
#[derive(Debug, Clone, Copy)]
pub struct Attempts<'p> {
    /// Its kind's retry policy.
    pub policy: &'p RetryPolicy,
    /// What whoever enqueued it said instead of the policy's own number.
    pub max_attempts: Option<u32>,
}

impl Attempts<'_> {
    /// The wait before the next attempt; `None`: there is none.
    pub fn next_wait(&self, attempt: u32, failure: &Failure, random: f64) -> Option<Duration> {
        self.policy.next_wait_of(self.max_attempts, attempt, failure, random)
    }
}

/// A new job, due at `run_at` or at once, given the database's time in milliseconds.
pub const fn enqueue(run_at: Option<i64>, now: i64) -> Standing {
    match run_at {
        Some(run_at) if run_at > now => {
            Standing { due: Some(Due::At(run_at)), ..Standing::new(State::Scheduled) }
        }
        _ => Standing::new(State::Queued),
    }
}

/// What was due later is due now.
///
/// # Errors
/// Unless it is `scheduled` or `retrying`.
pub fn promote(job: Standing) -> Result<Standing, Refused> {
    Ok(job.from(Event::Promote, &[State::Scheduled, State::Retrying])?.to(State::Queued))
}

/// A worker takes it.
///
/// # Errors
/// Unless it is `queued`.
pub fn claim(job: Standing) -> Result<Standing, Refused> {
    let job = job.from(Event::Claim, &[State::Queued])?;
    Ok(Standing { started: true, ..job.to(State::Running) })
}

/// Its last step ended.
///
/// # Errors
/// Unless it is `running`.
pub fn succeed(job: Standing) -> Result<Standing, Refused> {
    let job = job.from(Event::Succeed, &[State::Running])?;
    Ok(Standing { rescues: 0, ..job.to(State::Succeeded) })
}

/// An attempt failed: it is tried again where the policy says so, and kept as `failed` otherwise.
///
/// # Errors
/// Unless it is `running`.
pub fn fail(
    job: Standing,
    failure: &Failure,
    attempts: Attempts<'_>,
    random: f64,
) -> Result<Standing, Refused> {
    let job = job.from(Event::Fail, &[State::Running])?;
    let wait = attempts.next_wait(job.attempt(), failure, random);
    Ok(Standing { rescues: 0, ..spent(job, wait) })
}

/// It asks to be run again in a while; that spends no attempt.
///
/// # Errors
/// Unless it is `running`.
pub fn snooze(job: Standing, wait: Duration) -> Result<Standing, Refused> {
    let job = job.from(Event::Snooze, &[State::Running])?;
    Ok(Standing { rescues: 0, ..job.due(State::Scheduled, Due::After(wait)) })
}

/// It waits for a callback, for that long at most; that spends no attempt.
///
/// # Errors
/// Unless it is `running`.
pub fn wait(job: Standing, within: Duration) -> Result<Standing, Refused> {
    let job = job.from(Event::Wait, &[State::Running])?;
    Ok(Standing { rescues: 0, ..job.due(State::Waiting, Due::After(within)) })
}

/// The callback came: the same attempt goes on behind the step that waited.
///
/// # Errors
/// Unless it is `waiting`.
pub fn callback(job: Standing) -> Result<Standing, Refused> {
    Ok(job.from(Event::Callback, &[State::Waiting])?.to(State::Queued))
}

/// The callback did not come in time, or brought a failure: the attempt is spent.
///
/// # Errors
/// Unless it is `waiting`.
pub fn callback_missed(
    job: Standing,
    failure: &Failure,
    attempts: Attempts<'_>,
    random: f64,
) -> Result<Standing, Refused> {
    let job = job.from(Event::CallbackMissed, &[State::Waiting])?;
    Ok(spent(job, attempts.next_wait(job.attempt(), failure, random)))
}

/// Its worker is dead. The first [`RESCUES`] deaths spend nothing; one that the job dies of alone spends an
/// attempt, as a failure of the code `worker-lost` does.
///
/// # Errors
/// Unless it is `running`.
pub fn rescue(job: Standing, attempts: Attempts<'_>, random: f64) -> Result<Standing, Refused> {
    let job = job.from(Event::Rescue, &[State::Running])?;
    if !job.runs_alone() {
        return Ok(Standing { rescues: job.rescues + 1, ..job.to(State::Queued) });
    }
    Ok(spent(job, attempts.next_wait(job.attempt(), &worker_lost(), random)))
}

/// Its worker gives it back untouched; that is as if it had never been claimed. `before` says whether it had
/// been started before this claim.
///
/// # Errors
/// Unless it is `running`.
pub fn hand_back(job: Standing, before: bool) -> Result<Standing, Refused> {
    let job = job.from(Event::HandBack, &[State::Running])?;
    Ok(Standing { started: before, ..job.to(State::Queued) })
}

/// Somebody wants it gone. A failed job is discarded instead, so that nothing of it is lost by mistake.
///
/// # Errors
/// Where it has ended or is `failed`.
pub fn cancel(job: Standing) -> Result<Standing, Refused> {
    let live = [State::Scheduled, State::Queued, State::Running, State::Retrying, State::Waiting];
    Ok(cancelled(job.from(Event::Cancel, &live)?, Cancelled::Asked))
}

/// The time by which it should have been started is over.
///
/// # Errors
/// Where it was started, or is not waiting for that.
pub fn expire(job: Standing) -> Result<Standing, Refused> {
    let job = job.from(Event::Expire, &[State::Scheduled, State::Queued])?;
    if job.started {
        return Err(Refused { state: job.state, event: Event::Expire });
    }
    Ok(cancelled(job, Cancelled::Expired))
}

/// It came back and another job holds its unique key.
///
/// # Errors
/// Where it has ended, or is `queued` or `failed` and so does not come back.
pub fn superseded(job: Standing) -> Result<Standing, Refused> {
    let back = [State::Scheduled, State::Running, State::Retrying, State::Waiting];
    Ok(cancelled(job.from(Event::Superseded, &back)?, Cancelled::Superseded))
}

/// An operator gives a failed job up.
///
/// # Errors
/// Unless it is `failed`.
pub fn discard(job: Standing) -> Result<Standing, Refused> {
    Ok(job.from(Event::Discard, &[State::Failed])?.to(State::Discarded))
}

/// An operator wants it run now. One that was given up begins anew, with all its attempts.
///
/// # Errors
/// Where it is `queued`, `running`, `waiting` or `succeeded`.
pub fn retry_now(job: Standing) -> Result<Standing, Refused> {
    let from = [State::Scheduled, State::Retrying, State::Failed, State::Cancelled, State::Discarded];
    let job = job.from(Event::RetryNow, &from)?;
    Ok(match job.state {
        State::Scheduled | State::Retrying => job.to(State::Queued),
        _ => Standing::new(State::Queued),
    })
}

/// An operator wants it run later.
///
/// # Errors
/// Unless it is `scheduled`, `queued` or `retrying`.
pub fn postpone(job: Standing, due: Due) -> Result<Standing, Refused> {
    let job = job.from(Event::Postpone, &[State::Scheduled, State::Queued, State::Retrying])?;
    let state = if job.state == State::Retrying { State::Retrying } else { State::Scheduled };
    Ok(job.due(state, due))
}

fn spent(job: Standing, wait: Option<Duration>) -> Standing {
    let job = Standing { attempts: job.attempt(), ..job };
    match wait {
        Some(wait) => job.due(State::Retrying, Due::After(wait)),
        None => job.to(State::Failed),
    }
}

fn cancelled(job: Standing, why: Cancelled) -> Standing {
    Standing { cancelled: Some(why), ..job.to(State::Cancelled) }
}

fn worker_lost() -> Failure {
    Failure::transient("worker-lost", "the worker died while it ran this job alone")
}
