//! The answer of a whole batch taken apart: one outcome for each record, in their order.

use reqwest::header::HeaderMap;
use serde_json::Value as Json;

use super::answer::Answer;
use super::step::{Http, OnStatus, Response};
use crate::base::Failure;
use crate::steps::gather::Outcomes;
use crate::steps::path::FieldPath;

/// Where answers lie in the body of a batch's answer, and what an element says of itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Parts {
    /// The list; `None`: the body itself.
    pub(super) answers: Option<FieldPath>,
    /// An element's HTTP status; `None`: that of the whole.
    pub(super) status: Option<FieldPath>,
    /// An element's body; `None`: the element itself.
    pub(super) body: Option<FieldPath>,
}

impl Http {
    /// What each of `count` records comes to, given what their request came to.
    pub(super) fn split(
        &self,
        parts: &Parts,
        whole: Result<Answer, Failure>,
        count: usize,
    ) -> Outcomes<Answer> {
        let list = whole.and_then(|whole| {
            // Such an answer has nothing to take apart and means the same for all.
            let one = self.action(whole.status) != OnStatus::Accept || self.response == Response::None;
            if one { Ok(vec![Ok(whole); count]) } else { self.elements(parts, whole, count) }
        });
        list.unwrap_or_else(|failure| vec![Err(failure); count])
    }

    fn elements(&self, parts: &Parts, mut whole: Answer, count: usize) -> Result<Outcomes<Answer>, Failure> {
        let list = match &parts.answers {
            Some(path) => path.remove(&mut whole.body).unwrap_or_default(),
            None => whole.body,
        };
        let Json::Array(list) = list else {
            return Err(unfit(format!(
                "the answer ({}) holds no list where those of the batch belong",
                whole.status
            )));
        };
        if list.len() != count {
            return Err(unfit(format!(
                "the answer ({}) is a list of {} for a batch of {count}",
                whole.status,
                list.len()
            )));
        }
        Ok(list.into_iter().map(|element| self.element(parts, element, whole.status)).collect())
    }

    fn element(&self, parts: &Parts, mut element: Json, whole: u16) -> Result<Answer, Failure> {
        let status = match &parts.status {
            Some(path) => path.get(&element).and_then(status).ok_or_else(|| {
                unfit(format!("an element of the answer ({whole}) has no HTTP status in `batch.status`"))
            })?,
            None => whole,
        };
        match self.action(status) {
            OnStatus::Accept => {
                let body = match &parts.body {
                    Some(path) => path.remove(&mut element).unwrap_or_default(),
                    None => element,
                };
                Ok(Answer { status, body })
            }
            OnStatus::Null | OnStatus::Drop => Ok(Answer::null(status)),
            OnStatus::DeadLetter => Err(self.refused(status, &HeaderMap::new())),
        }
    }
}

fn status(json: &Json) -> Option<u16> {
    u16::try_from(json.as_u64()?).ok().filter(|status| (100..=599).contains(status))
}

/// Transient, though the other side broke its word: which record it stumbled over is not known, and the
/// next try is in other company.
fn unfit(message: String) -> Failure {
    Failure::transient("batch-answer", message)
}
