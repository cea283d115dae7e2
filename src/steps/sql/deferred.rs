//! The step in a stage that is exactly-once in a database: it leaves what it would change for whoever changes it
//! together with the stage's offset.

use serde_json::Value as Json;

use super::batch::lists;
use super::step::Asked;
use crate::base::Failure;
use crate::expr::{RootSet, TemplateTree};
use crate::record::Item;
use crate::steps::ports::SqlLimits;
use crate::steps::{Flow, ItemScope, OpenError, Ports, ReadyStep, Runnable, StepBody, StepContext};

/// A statement that is carried out with the offset of the record that it is for.
#[derive(Debug, Clone)]
pub struct Effect {
    /// The database and the statement.
    pub asked: Asked,
    /// What it may come to.
    pub limits: SqlLimits,
    /// How many records share it at most; `None`: it is one record's.
    pub batch: Option<usize>,
    /// The place of the value that numbers the records of a batch.
    pub numbered: Option<usize>,
}

impl Effect {
    /// The values of a statement that several records share.
    pub fn together(&self, records: &[Vec<Json>]) -> Vec<Json> {
        lists(records, self.numbered)
    }
}

/// The step as planned, and open.
#[derive(Debug, Clone)]
pub(super) struct Deferred {
    pub(super) effect: Effect,
    pub(super) values: Vec<TemplateTree>,
}

impl StepBody for Deferred {
    fn kind(&self) -> &'static str {
        "sql"
    }

    fn is_repeatable(&self) -> bool {
        false
    }

    fn asked(&self) -> Option<&Asked> {
        Some(&self.effect.asked)
    }

    fn effect(&self) -> Option<&Effect> {
        Some(&self.effect)
    }

    fn reads(&self) -> RootSet {
        self.values.iter().map(TemplateTree::reads).fold(RootSet::EMPTY, RootSet::union)
    }

    fn open(&self, _: &Ports) -> Result<Runnable, OpenError> {
        Ok(Runnable::Ready(Box::new(self.clone())))
    }
}

impl ReadyStep for Deferred {
    fn run<'r>(&self, item: &mut Item<'r>, context: &StepContext<'_>) -> Result<Flow<'r>, Failure> {
        let values: Json = {
            let scope = ItemScope::new(item, context.env);
            self.values.iter().map(|tree| tree.render(&scope)).collect::<Result<_, _>>()?
        };
        item.set_result(context.name, values);
        Ok(Flow::Next)
    }
}
