//! From how an attempt ended to what the database is told. Pure.

use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::base::{Failure, RetryPolicy};
use crate::jobs::Outcome;
use crate::jobs::state::{Attempts, Due, RESCUES, Standing, State};
use crate::store::{Claimed, HeldJob, Verdict};

/// How far a job that is held is with its attempts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tries {
    attempt: i16,
    max_attempts: i16,
    rescues: i16,
}

impl From<&Claimed> for Tries {
    fn from(job: &Claimed) -> Self {
        Self { attempt: job.attempt, max_attempts: job.max_attempts, rescues: job.rescues }
    }
}

impl From<&HeldJob> for Tries {
    fn from(job: &HeldJob) -> Self {
        Self { attempt: job.attempt, max_attempts: job.max_attempts, rescues: job.rescues }
    }
}

/// What becomes of a job whose attempt ended so. `random` is uniform in `0.0..1.0`.
pub(super) fn verdict(outcome: Outcome, job: impl Into<Tries>, policy: &RetryPolicy, random: f64) -> Verdict {
    let job = job.into();
    let outcome = match outcome {
        // It is another worker's now, or this one's later; what it did so far is done again.
        Outcome::Cancelled => return Verdict::Back,
        ended => ended,
    };
    let max_attempts = u32::try_from(job.max_attempts).ok();
    let next = outcome.settle(standing(job), Attempts { policy, max_attempts }, random);
    match (outcome, next) {
        (Outcome::Failed(failure), Ok(Standing { state: State::Retrying, due, .. })) => {
            let delay = match due {
                Some(Due::After(wait)) => wait,
                _ => Duration::ZERO,
            };
            Verdict::Retry { delay, code: plain(&failure.code), detail: described(&failure) }
        }
        (Outcome::Failed(failure), _) => {
            Verdict::Failed { code: plain(&failure.code), detail: described(&failure) }
        }
        (Outcome::Snoozed { wait, .. }, _) => Verdict::Snooze { delay: wait },
        (Outcome::Succeeded { result }, _) => {
            Verdict::Succeeded { detail: result.map(|value| storable(value).to_string()) }
        }
        (Outcome::Waiting { within, .. }, _) => Verdict::Wait { within },
        (Outcome::Cancelled, _) => Verdict::Back,
    }
}

/// A job in a lease, with this attempt not yet spent.
fn standing(job: Tries) -> Standing {
    let before = |number: i16| u32::try_from(number).unwrap_or_default();
    Standing {
        state: State::Running,
        attempts: before(job.attempt.saturating_sub(1)),
        rescues: before(job.rescues).min(RESCUES),
        started: true,
        due: None,
        cancelled: None,
    }
}

/// A failure as `jobs show` prints it.
fn described(failure: &Failure) -> String {
    let error = json!({
        "code": failure.code, "class": failure.class.as_str(), "message": failure.message, "step": failure.step,
    });
    storable(error).to_string()
}

/// JSON in Postgres holds no NUL; one of them would keep all outcomes of its statement from being written.
pub(super) fn storable(value: Json) -> Json {
    match value {
        Json::String(text) => Json::String(plain(&text)),
        Json::Array(items) => Json::Array(items.into_iter().map(storable).collect()),
        Json::Object(fields) => {
            Json::Object(fields.into_iter().map(|(name, value)| (plain(&name), storable(value))).collect())
        }
        other => other,
    }
}

fn plain(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::{Backoff, CodePattern, Exhausted};
    use crate::store::{JobId, KindId};

    fn policy() -> RetryPolicy {
        RetryPolicy {
            name: Arc::from("p"),
            max_attempts: 20,
            backoff: Backoff::Delays(vec![Duration::from_secs(4)]),
            on: vec![CodePattern::parse("transient")],
            not_on: Vec::new(),
            in_place_up_to: None,
            on_exhausted: Exhausted::DeadLetter,
        }
    }

    fn claimed(attempt: i16) -> Claimed {
        Claimed {
            seq: 1,
            id: JobId(1),
            attempt,
            rescues: 9,
            kind: KindId(1),
            max_attempts: 2,
            args: "{}".to_owned(),
            keyed: false,
            trace: None,
            expired: false,
            priority: 5,
            remembered: false,
            started: attempt > 1,
            run_at: 0,
            due_for: Duration::ZERO,
        }
    }

    fn of(outcome: Outcome, attempt: i16) -> Verdict {
        verdict(outcome, &claimed(attempt), &policy(), 0.0)
    }

    #[test]
    fn a_failure_is_tried_again_while_the_job_itself_has_attempts() {
        let busy = || Outcome::Failed(Failure::transient("http-500", "busy").in_step("ask"));
        let Verdict::Retry { delay, code, detail } = of(busy(), 1) else { panic!("not tried again") };
        assert_eq!((delay, &*code), (Duration::from_secs(4), "http-500"));
        assert!(detail.contains(r#""step":"ask""#) && detail.contains(r#""class":"transient""#), "{detail}");
        assert!(matches!(of(busy(), 2), Verdict::Failed { code, .. } if code == "http-500"));
        let bad = Outcome::Failed(Failure::permanent("http-400", "bad"));
        assert!(matches!(of(bad, 1), Verdict::Failed { .. }));
    }

    #[test]
    fn what_spends_no_attempt_spends_none() {
        assert_eq!(of(Outcome::Cancelled, 2), Verdict::Back);
        let wait = Duration::from_secs(7);
        let waiting = Outcome::Waiting { step: Arc::from("ask"), within: wait };
        assert_eq!(of(waiting, 2), Verdict::Wait { within: wait });
        let why = Failure::transient("http-429", "later");
        assert_eq!(of(Outcome::Snoozed { wait, why }, 2), Verdict::Snooze { delay: wait });
    }

    #[test]
    fn no_nul_reaches_the_database() {
        let result = Some(json!({"a\0": ["x\0y", 1]}));
        let Verdict::Succeeded { detail } = of(Outcome::Succeeded { result }, 1) else { panic!("it failed") };
        assert_eq!(detail.as_deref(), Some("{\"a\u{fffd}\":[\"x\u{fffd}y\",1]}"));
        let failed = of(Outcome::Failed(Failure::permanent("own\0", "\0")), 1);
        assert!(!format!("{failed:?}").contains("\\0") && !format!("{failed:?}").contains("u0000"));
    }
}
