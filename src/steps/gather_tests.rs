//! Who shares a request with whom, when it goes and what happens when members leave; the clock stands
//! still but where everybody waits, and nothing is sent anywhere.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::poll;
use parking_lot::Mutex;
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::gather::{Asking, Batches as Of, Limits};
use crate::base::{Class, Failure};

const LONG: Duration = Duration::from_secs(3_600);

type Batches = Of<Json, Json>;

/// What went out.
type Sent = Arc<Mutex<Vec<Json>>>;

fn batches(records: usize, bytes: usize, linger: Duration) -> Batches {
    Batches::new(Limits { records, bytes, linger })
}

fn alone(element: impl Into<Json>) -> (Json, usize) {
    let element = element.into();
    let size = element.to_string().len();
    (element, size)
}

/// Notes each request and, after `wait`, answers every element with itself.
fn echo(sent: &Sent, wait: Duration) -> impl FnOnce(Vec<Json>, usize) -> Asking<Json> + use<> {
    let sent = Arc::clone(sent);
    move |elements, own| {
        assert!(own < elements.len());
        sent.lock().push(Json::from(elements.clone()));
        Box::pin(async move {
            tokio::time::sleep(wait).await;
            elements.into_iter().map(Ok).collect()
        })
    }
}

async fn ask(batches: &Batches, element: u32, sent: &Sent) -> Result<Json, Failure> {
    batches.ask(Vec::new(), alone(element), echo(sent, Duration::from_secs(1))).await
}

#[tokio::test(start_paused = true)]
async fn a_batch_goes_when_it_has_its_records_or_no_room_or_when_its_time_has_come() {
    for (records, bytes, expected, waited) in [
        // Four fill two batches, the fifth waits in vain.
        (2, 100, json!([[10, 11], [12, 13], [14]]), LONG),
        // `[10,11]` is what fits; no smaller record fits behind it.
        (100, 7, json!([[10, 11], [12, 13], [14]]), LONG),
        (5, 100, json!([[10, 11, 12, 13, 14]]), Duration::ZERO),
        (100, 100, json!([[10, 11, 12, 13, 14]]), LONG),
    ] {
        let (batches, sent, start) = (batches(records, bytes, LONG), Sent::default(), Instant::now());
        let answers = join_all((10..15).map(|element| ask(&batches, element, &sent))).await;
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers, [10, 11, 12, 13, 14]);
        assert_eq!(json!(*sent.lock()), expected);
        assert_eq!(start.elapsed(), waited + Duration::from_secs(1));
        assert_eq!(batches.open(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_beside_others_sends_them_and_begins_the_next() {
    let (batches, sent) = (batches(100, 8, LONG), Sent::default());
    let elements = [1, 22, 333, 4];
    let runs = elements.map(|element| batches.ask(Vec::new(), alone(element), echo(&sent, Duration::ZERO)));
    for (answer, element) in join_all(runs).await.into_iter().zip(elements) {
        assert_eq!(answer.unwrap(), element);
    }
    assert_eq!(json!(*sent.lock()), json!([[1, 22], [333, 4]]));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_larger_than_a_body_fails_alone_and_is_not_sent() {
    let (batches, sent) = (batches(2, 5, LONG), Sent::default());
    let (large, a, b) =
        tokio::join!(ask(&batches, 1_234, &sent), ask(&batches, 1, &sent), ask(&batches, 2, &sent));
    let failure = large.unwrap_err();
    assert_eq!((&*failure.code, failure.class), ("batch-too-large", Class::Permanent));
    assert_eq!((a.unwrap(), b.unwrap(), sent.lock().len()), (json!(1), json!(2), 1));
}

#[tokio::test(start_paused = true)]
async fn groups_do_not_share_a_request() {
    let (batches, sent) = (batches(2, 100, LONG), Sent::default());
    let all = (0..6_usize)
        .map(|number| batches.ask(vec![(number % 3) as u8], alone(number), echo(&sent, Duration::ZERO)));
    assert!(join_all(all).await.into_iter().all(|answer| answer.is_ok()));
    let mut bodies = sent.lock().clone();
    bodies.sort_by_key(|body| body[0].as_u64());
    assert_eq!(json!(bodies), json!([[0, 3], [1, 4], [2, 5]]));
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_before_the_request_goes_is_not_in_it_and_the_rest_is_sent() {
    let (batches, sent, start) = (batches(3, 100, LONG), Sent::default(), Instant::now());
    let (mut first, mut second) =
        (Box::pin(ask(&batches, 1, &sent)), Box::pin(timeout(LONG / 2, ask(&batches, 2, &sent))));
    assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
    drop(first);
    let (second, third) = tokio::join!(second, ask(&batches, 3, &sent));
    assert!(second.is_err());
    assert_eq!(third.unwrap(), json!(3));
    // The one that is left waits for no longer than if nobody had left.
    assert_eq!(start.elapsed(), LONG + Duration::from_secs(1));
    assert_eq!((json!(*sent.lock()), batches.open()), (json!([[3]]), 0));
}

#[tokio::test(start_paused = true)]
async fn a_request_goes_on_when_the_member_that_sent_it_leaves() {
    let (batches, sent, start) = (batches(2, 100, LONG), Sent::default(), Instant::now());
    let first = timeout(Duration::from_millis(300), ask(&batches, 1, &sent));
    let (first, second) = tokio::join!(first, ask(&batches, 2, &sent));
    assert!(first.is_err());
    assert_eq!(second.unwrap(), json!(2));
    assert_eq!((json!(*sent.lock()), batches.open()), (json!([[1, 2]]), 0));
    assert_eq!(start.elapsed(), Duration::from_secs(1), "nothing began anew");
}

#[tokio::test(start_paused = true)]
async fn when_all_leave_nothing_is_sent_and_nothing_stays() {
    let (batches, sent) = (batches(3, 100, LONG), Sent::default());
    let short = |element| timeout(Duration::from_millis(10), ask(&batches, element, &sent));
    let left = tokio::join!(short(1), short(2));
    assert!(left.0.is_err() && left.1.is_err());
    assert_eq!((sent.lock().len(), batches.open()), (0, 0));
}

/// A record: its group, when it comes, how long it stays, all in milliseconds.
type Visit = (u8, u64, Option<u64>);

const LINGER: u64 = 20;
const ANSWER: u64 = 15;

async fn visit(batches: &Batches, number: usize, visit: Visit, sent: &Sent) -> Result<(), TestCaseError> {
    let (group, comes, stays) = visit;
    tokio::time::sleep(Duration::from_millis(comes)).await;
    let start = Instant::now();
    let stays = Duration::from_millis(stays.unwrap_or(u64::MAX >> 20));
    let run = batches.ask(vec![group], alone(number), echo(sent, Duration::from_millis(ANSWER)));
    let Ok(answer) = timeout(stays, run).await else { return Ok(()) };
    prop_assert_eq!(answer, Ok(json!(number)));
    prop_assert!(start.elapsed() <= Duration::from_millis(LINGER + ANSWER), "{:?}", start.elapsed());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// However records come and leave, those that stay get their own answers in time, no request is
    /// larger than it may be, none is sent twice, and nothing stays behind.
    #[test]
    fn no_batch_is_ever_stranded(
        visits in prop::collection::vec((0..2u8, 0..60u64, prop::option::of(0..40u64)), 1..40),
        records in 1..6usize,
    ) {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().unwrap().block_on(async {
            let batches = Arc::new(batches(records, 14, Duration::from_millis(LINGER)));
            let sent = Sent::default();
            let mut tasks = JoinSet::new();
            for (number, record) in visits.into_iter().enumerate() {
                let (batches, sent) = (Arc::clone(&batches), Arc::clone(&sent));
                tasks.spawn(async move { visit(&batches, number, record, &sent).await });
            }
            while let Some(result) = tasks.join_next().await {
                result.unwrap()?;
            }
            prop_assert_eq!(batches.open(), 0);
            let mut all: Vec<_> = Vec::new();
            for body in sent.lock().iter() {
                prop_assert!(body.to_string().len() <= 14);
                let list = body.as_array().unwrap();
                prop_assert!(!list.is_empty() && list.len() <= records);
                all.extend(list.iter().filter_map(Json::as_u64));
            }
            let count = all.len();
            all.sort_unstable();
            all.dedup();
            prop_assert_eq!(all.len(), count, "an element was sent twice");
            Ok(())
        })?;
    }
}
