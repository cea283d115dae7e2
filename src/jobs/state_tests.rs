//! Every transition from every state, and what holds after any sequence of them.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::state::*;
use crate::base::{Backoff, CodePattern, Exhausted, Failure, RetryPolicy};

const EVENTS: [Event; 16] = [
    Event::Promote,
    Event::Claim,
    Event::Succeed,
    Event::Fail,
    Event::Snooze,
    Event::Wait,
    Event::Callback,
    Event::CallbackMissed,
    Event::Rescue,
    Event::HandBack,
    Event::Cancel,
    Event::Expire,
    Event::Discard,
    Event::RetryNow,
    Event::Postpone,
    Event::Superseded,
];

const SECOND: Duration = Duration::from_secs(1);

fn policy(max_attempts: u32) -> RetryPolicy {
    RetryPolicy {
        name: Arc::from("p"),
        max_attempts,
        backoff: Backoff::Delays(vec![SECOND]),
        on: vec![CodePattern::parse("transient")],
        not_on: Vec::new(),
        in_place_up_to: None,
        on_exhausted: Exhausted::DeadLetter,
    }
}

/// The transition of `event`; failures are those that `policy` tries again.
fn apply(job: Standing, event: Event, policy: &RetryPolicy) -> Result<Standing, Refused> {
    let attempts = Attempts { policy, max_attempts: None };
    let busy = Failure::transient("http-503", "busy");
    match event {
        Event::Promote => promote(job),
        Event::Claim => claim(job),
        Event::Succeed => succeed(job),
        Event::Fail => fail(job, &busy, attempts, 0.5),
        Event::Snooze => snooze(job, SECOND),
        Event::Wait => wait(job, SECOND),
        Event::Callback => callback(job),
        Event::CallbackMissed => callback_missed(job, &busy, attempts, 0.5),
        Event::Rescue => rescue(job, attempts, 0.5),
        Event::HandBack => hand_back(job, job.attempts > 0),
        Event::Cancel => cancel(job),
        Event::Expire => expire(job),
        Event::Discard => discard(job),
        Event::RetryNow => retry_now(job),
        Event::Postpone => postpone(job, Due::At(5)),
        Event::Superseded => superseded(job),
    }
}

/// A job that never started and stands in `state`.
fn standing(state: State) -> Standing {
    let due = state.has_moment().then_some(Due::At(1));
    let cancelled = (state == State::Cancelled).then_some(Cancelled::Asked);
    Standing { state, due, cancelled, ..enqueue(None, 0) }
}

#[test]
fn each_transition_leads_from_these_states_to_those_and_is_refused_from_all_others() {
    use Event as E;
    use State as S;
    let allowed = [
        (E::Promote, S::Scheduled, S::Queued),
        (E::Promote, S::Retrying, S::Queued),
        (E::Claim, S::Queued, S::Running),
        (E::Succeed, S::Running, S::Succeeded),
        (E::Fail, S::Running, S::Retrying),
        (E::Snooze, S::Running, S::Scheduled),
        (E::Wait, S::Running, S::Waiting),
        (E::Callback, S::Waiting, S::Queued),
        (E::CallbackMissed, S::Waiting, S::Retrying),
        (E::Rescue, S::Running, S::Queued),
        (E::HandBack, S::Running, S::Queued),
        (E::Cancel, S::Scheduled, S::Cancelled),
        (E::Cancel, S::Queued, S::Cancelled),
        (E::Cancel, S::Running, S::Cancelled),
        (E::Cancel, S::Retrying, S::Cancelled),
        (E::Cancel, S::Waiting, S::Cancelled),
        (E::Expire, S::Scheduled, S::Cancelled),
        (E::Expire, S::Queued, S::Cancelled),
        (E::Discard, S::Failed, S::Discarded),
        (E::RetryNow, S::Scheduled, S::Queued),
        (E::RetryNow, S::Retrying, S::Queued),
        (E::RetryNow, S::Failed, S::Queued),
        (E::RetryNow, S::Cancelled, S::Queued),
        (E::RetryNow, S::Discarded, S::Queued),
        (E::Postpone, S::Scheduled, S::Scheduled),
        (E::Postpone, S::Queued, S::Scheduled),
        (E::Postpone, S::Retrying, S::Retrying),
        (E::Superseded, S::Scheduled, S::Cancelled),
        (E::Superseded, S::Running, S::Cancelled),
        (E::Superseded, S::Retrying, S::Cancelled),
        (E::Superseded, S::Waiting, S::Cancelled),
    ];
    for event in EVENTS {
        for state in State::ALL {
            let expected = allowed.iter().find(|(on, from, _)| (*on, *from) == (event, state));
            let expected = expected.map(|(.., to)| *to).ok_or(Refused { state, event });
            let found = apply(standing(state), event, &policy(3)).map(|job| job.state);
            assert_eq!(found, expected, "{event:?} of a {state} job");
        }
    }
}

#[test]
fn a_failure_is_tried_again_until_the_attempts_are_spent() {
    let mut job = enqueue(None, 0);
    for attempt in 1..=3 {
        job = claim(job).unwrap();
        assert_eq!(job.attempt(), attempt);
        job = apply(job, Event::Fail, &policy(3)).unwrap();
        if attempt < 3 {
            assert_eq!((job.state, job.due), (State::Retrying, Some(Due::After(SECOND))));
            job = promote(job).unwrap();
        }
    }
    assert_eq!((job.state, job.attempts, job.due), (State::Failed, 3, None));
    let again = retry_now(job).unwrap();
    assert_eq!((again.state, again.attempts), (State::Queued, 0), "an operator gives all attempts anew");
}

#[test]
fn what_the_policy_does_not_cover_fails_at_once_and_whoever_enqueued_may_say_how_often() {
    let (policy, running) = (policy(9), claim(enqueue(None, 0)).unwrap());
    let all = Attempts { policy: &policy, max_attempts: None };
    let permanent = Failure::permanent("schema", "no");
    assert_eq!(fail(running, &permanent, all, 0.0).unwrap().state, State::Failed);
    let once = Attempts { policy: &policy, max_attempts: Some(1) };
    let busy = Failure::transient("http-503", "busy");
    assert_eq!(fail(running, &busy, once, 0.0).unwrap().state, State::Failed);
    let asked = busy.retry_after(Some(Duration::from_secs(60)));
    let job = fail(running, &asked, all, 0.0).unwrap();
    assert_eq!(job.due, Some(Due::After(Duration::from_secs(60))), "a wait that was asked for is kept");
}

#[test]
fn a_snooze_and_a_callback_spend_no_attempt() {
    let mut job = claim(enqueue(None, 0)).unwrap();
    for _ in 0..100 {
        job = claim(promote(snooze(job, SECOND).unwrap()).unwrap()).unwrap();
        job = claim(callback(wait(job, SECOND).unwrap()).unwrap()).unwrap();
    }
    assert_eq!((job.attempt(), job.state), (1, State::Running));
}

#[test]
fn three_workers_die_of_a_job_before_an_attempt_is_spent_and_then_it_runs_alone() {
    let policy = policy(2);
    let die = |job| apply(claim(job).unwrap(), Event::Rescue, &policy).unwrap();
    let mut job = enqueue(None, 0);
    for rescues in 1..=RESCUES {
        assert!(!job.runs_alone());
        job = die(job);
        assert_eq!((job.state, job.attempts, job.rescues), (State::Queued, 0, rescues));
    }
    assert!(job.runs_alone());
    job = die(job);
    assert_eq!((job.state, job.attempts), (State::Retrying, 1));
    assert!(job.runs_alone(), "what killed four workers has no neighbours");
    assert_eq!(die(promote(job).unwrap()).state, State::Failed);
    let mended = claim(promote(job).unwrap()).unwrap();
    assert!(!snooze(mended, SECOND).unwrap().runs_alone(), "an attempt that ended by itself clears it");
}

#[test]
fn only_what_was_never_started_expires() {
    let queued = enqueue(None, 0);
    assert_eq!(expire(queued).unwrap().cancelled, Some(Cancelled::Expired));
    assert_eq!(expire(enqueue(Some(10), 0)).unwrap().state, State::Cancelled);
    let running = claim(queued).unwrap();
    assert!(expire(snooze(running, SECOND).unwrap()).is_err());
    assert!(expire(hand_back(running, false).unwrap()).is_ok(), "given back untouched is not started");
}

#[test]
fn a_job_is_scheduled_only_where_its_time_is_to_come() {
    assert_eq!(
        (enqueue(Some(11), 10).state, enqueue(Some(11), 10).due),
        (State::Scheduled, Some(Due::At(11)))
    );
    for run_at in [None, Some(10), Some(9)] {
        assert_eq!(enqueue(run_at, 10).state, State::Queued);
    }
}

#[test]
fn every_state_has_its_word() {
    for state in State::ALL {
        assert_eq!(State::parse(state.as_str()), Some(state));
    }
    assert_eq!(State::parse("done"), None);
}

proptest! {
    #[test]
    fn whatever_happens_in_whatever_order_the_rules_hold(
        events in proptest::collection::vec(0..EVENTS.len(), 0..200),
        max_attempts in 1u32..6,
        run_at in proptest::option::of(0i64..20),
    ) {
        let policy = policy(max_attempts);
        let mut job = enqueue(run_at, 10);
        for event in events.into_iter().map(|index| EVENTS[index]) {
            let before = job;
            match apply(job, event, &policy) {
                Err(refused) => {
                    prop_assert_eq!((refused.state, refused.event), (before.state, event));
                    continue;
                }
                Ok(after) => job = after,
            }
            prop_assert_eq!(job.due.is_some(), job.state.has_moment());
            prop_assert_eq!(job.cancelled.is_some(), job.state == State::Cancelled);
            prop_assert!(job.attempts <= max_attempts && job.rescues <= RESCUES);
            // Its end is left only because an operator wants it, and one that is done is never done again.
            let back = before.state.is_ended() || before.state == State::Failed;
            prop_assert!(!back || matches!(event, Event::RetryNow | Event::Discard));
            prop_assert!(before.state != State::Succeeded);
            // Only a claim makes it run, and attempts are spent by failures and deaths alone, one by one.
            prop_assert_eq!(job.state == State::Running, event == Event::Claim);
            let spends = matches!(event, Event::Fail | Event::CallbackMissed)
                || event == Event::Rescue && before.runs_alone();
            let spent = if back && event == Event::RetryNow { 0 } else { before.attempts + u32::from(spends) };
            prop_assert_eq!(job.attempts, spent);
            // Exhausted and only then.
            prop_assert_eq!(job.state == State::Failed, spends && job.attempts == max_attempts);
            prop_assert!(job.attempts < max_attempts || back || spends || job.state.is_ended());
        }
    }
}
