//! A statement for several records at one time: their values as lists, and the rows of its answer back to them.

use std::iter::repeat_n;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::base::{Class, Failure};
use crate::steps::gather::Outcomes;
use crate::steps::ports::{RECORD, SqlAnswer, SqlLimits, Statement};

/// What one record of a batch gets.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Share {
    pub(super) rows: Vec<Json>,
    /// How many rows were touched for it; `None`: that cannot be told.
    pub(super) affected: Option<u64>,
}

/// Carries `statement` out for all `records` at once. Where it fails for good it is carried out for each half of
/// them, and so on, so that a record for which it cannot be carried out fails alone. The value at `numbered` is
/// their numbers.
pub(super) async fn carry_out(
    statement: Arc<dyn Statement>,
    limits: SqlLimits,
    records: Vec<Vec<Json>>,
    numbered: Option<usize>,
) -> Outcomes<Share> {
    let mut outcomes = Vec::with_capacity(records.len());
    let whole = 0..records.len();
    let mut open = vec![whole];
    while let Some(part) = open.pop() {
        match statement.run(&lists(&records[part.clone()], numbered), limits).await {
            Ok(answer) => outcomes.extend(shares(answer, part.len())),
            Err(failure) if part.len() == 1 || !is_of_a_record(&failure) => {
                outcomes.extend(repeat_n(Err(failure), part.len()));
            }
            Err(_) => {
                let middle = part.start + part.len() / 2;
                open.extend([middle..part.end, part.start..middle]);
            }
        }
    }
    outcomes
}

/// Whether another list of records may fare better: not where nothing is the matter with any of them, as where a right
/// or a table is missing (class 42), or the statement answers otherwise than it must.
fn is_of_a_record(failure: &Failure) -> bool {
    failure.class != Class::Transient && failure.code != "sql-record" && !failure.code.starts_with("sql-42")
}

/// For each value of a record the list of it over all records.
pub(super) fn lists(records: &[Vec<Json>], numbered: Option<usize>) -> Vec<Json> {
    let values = records.first().map_or(0, Vec::len);
    let list = |place| match numbered == Some(place) {
        true => (1..=records.len()).collect(),
        false => records.iter().map(|values| values.get(place).cloned().unwrap_or_default()).collect(),
    };
    (0..values).map(list).collect()
}

/// What each of `count` records gets of an answer.
fn shares(answer: SqlAnswer, count: usize) -> Outcomes<Share> {
    // Without rows it is known only where nothing was touched at all.
    let affected = if answer.rows.is_empty() { (answer.affected == 0).then_some(0) } else { Some(0) };
    let mut shares: Vec<_> = (0..count).map(|_| Share { rows: Vec::new(), affected }).collect();
    for mut row in answer.rows {
        let number = row.as_object_mut().and_then(|row| row.remove(RECORD)?.as_u64());
        let share = number.and_then(|number| shares.get_mut(usize::try_from(number.checked_sub(1)?).ok()?));
        let Some(share) = share else {
            // It was carried out, so that it is not for anybody to try again.
            let message =
                format!("a row of a batch of {count} has in `{RECORD}` no number from 1 to {count}");
            return repeat_n(Err(Failure::permanent("sql-record", message)), count).collect();
        };
        share.rows.push(row);
        share.affected = share.affected.map(|affected| affected + 1);
    }
    shares.into_iter().map(Ok).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_become_lists_and_rows_go_to_the_records_that_they_name() {
        let records = [vec![json!(7), json!("a"), json!(null)], vec![json!(8), json!(null), json!(null)]];
        assert_eq!(lists(&records, Some(2)), [json!([7, 8]), json!(["a", null]), json!([1, 2])]);
        let rows = vec![json!({"record": 2, "n": 1}), json!({"record": 2, "n": 2})];
        let found = shares(SqlAnswer { rows, affected: 2 }, 2);
        let second = Share { rows: vec![json!({"n": 1}), json!({"n": 2})], affected: Some(2) };
        assert_eq!(found, [Ok(Share { rows: Vec::new(), affected: Some(0) }), Ok(second)]);
        assert_eq!(
            shares(SqlAnswer { rows: Vec::new(), affected: 0 }, 1),
            [Ok(Share { rows: Vec::new(), affected: Some(0) })]
        );
        assert_eq!(shares(SqlAnswer { rows: Vec::new(), affected: 3 }, 1), [Ok(Share::default())]);
        for record in [json!(0), json!(3), json!(null), json!("1")] {
            let rows = vec![json!({ "record": record })];
            let found = shares(SqlAnswer { rows, affected: 1 }, 2);
            assert!(
                found.iter().all(|share| share.as_ref().is_err_and(|failure| failure.code == "sql-record"))
            );
        }
    }
}
