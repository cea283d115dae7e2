//! The step: hands its values to the statement and puts the answer where the step says.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::time::Instant;

use super::batch::{self, Share};
use super::deferred::{Deferred, Effect};
use crate::base::Failure;
use crate::diag::Span;
use crate::expr::{Named, Root, RootSet, TemplateTree};
use crate::record::{Item, weight};
use crate::steps::gather::{Asking, Batches, Settings};
use crate::steps::path::FieldPath;
use crate::steps::ports::{Database, SqlAnswer, SqlLimits, SqlText, Statement};
use crate::steps::{
    BoxedRun, Flow, Gathering, ItemScope, OpenError, Ports, Runnable, StepBody, StepContext, WaitingStep,
};

/// How often a statement that is repeated tells how far it is.
const TELL: Duration = Duration::from_secs(10);

/// What a step asks a database.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Whom; `None`: the engine's own.
    pub database: Option<Arc<Database>>,
    /// What.
    pub text: Arc<SqlText>,
    /// Where the statement stands, or its file is named.
    pub place: Span,
}

/// The step as planned.
#[derive(Debug, Clone)]
pub(super) struct Sql {
    pub(super) asked: Asked,
    /// A value for each name of the text.
    pub(super) values: Vec<TemplateTree>,
    pub(super) into: Option<FieldPath>,
    pub(super) shape: Shape,
    pub(super) limits: SqlLimits,
    /// Carried out again until it touches nothing more.
    pub(super) until_zero: bool,
    /// How records share a statement, where they do.
    pub(super) batch: Option<Settings>,
    /// The place of the value that numbers them.
    pub(super) numbered: Option<usize>,
    /// Whether asking twice changes nothing.
    pub(super) repeatable: bool,
}

/// What of the rows `into` puts into the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// All of them, as a list.
    Rows,
    /// The only one, or null.
    Row,
}

/// The step, open.
struct OpenSql {
    plan: Sql,
    statement: Arc<dyn Statement>,
    batches: Option<Batches<Vec<Json>, Share>>,
}

impl StepBody for Sql {
    fn kind(&self) -> &'static str {
        "sql"
    }

    fn waits(&self) -> bool {
        true
    }

    fn gathering(&self) -> Option<&Gathering> {
        self.batch.as_ref().map(|batch| &batch.gathering)
    }

    fn is_repeatable(&self) -> bool {
        self.repeatable
    }

    fn asked(&self) -> Option<&Asked> {
        Some(&self.asked)
    }

    fn named(&self) -> Vec<&Named> {
        self.values.iter().flat_map(TemplateTree::names).collect()
    }

    fn deferred(&self) -> Option<Arc<dyn StepBody>> {
        let Self { asked, limits, numbered, .. } = self;
        let batch = self.batch.as_ref().map(|batch| batch.gathering.records.value);
        let effect = Effect { asked: asked.clone(), limits: *limits, batch, numbered: *numbered };
        let deferred = || Arc::new(Deferred { effect, values: self.values.clone() }) as _;
        (!self.repeatable).then(deferred)
    }

    fn reads(&self) -> RootSet {
        let into = self.into.iter().map(|_| RootSet::EMPTY.with(Root::Value));
        self.values.iter().map(TemplateTree::reads).chain(into).fold(RootSet::EMPTY, RootSet::union)
    }

    fn open(&self, ports: &Ports) -> Result<Runnable, OpenError> {
        let databases = ports.sql.as_ref().ok_or_else(|| OpenError::new("no database can be asked here"))?;
        let statement = Arc::from(databases.statement(self.asked.database.as_ref(), &self.asked.text)?);
        let batches = self.batch.as_ref().map(|batch| Batches::new(batch.limits()));
        Ok(Runnable::Waiting(Box::new(OpenSql { plan: self.clone(), statement, batches })))
    }
}

impl WaitingStep for OpenSql {
    fn run<'a, 'r: 'a>(&'a self, item: &'a mut Item<'r>, context: StepContext<'a>) -> BoxedRun<'a, 'r> {
        Box::pin(async move {
            let plan = &self.plan;
            if let Some(path) = &plan.into {
                path.check(item.value()?)?;
            }
            let values = {
                let scope = ItemScope::new(item, context.env);
                let values = plan.values.iter().map(|tree| tree.render(&scope));
                values.collect::<Result<Vec<_>, _>>()?
            };
            if plan.until_zero {
                let (affected, batches) = self.repeat(&values, item, context.name).await?;
                item.set_result(context.name, json!({ "affected": affected, "batches": batches }));
                return Ok(Flow::Next);
            }
            let share = self.ask(values).await?;
            plan.put(item, context.name, share)?;
            Ok(Flow::Next)
        })
    }
}

impl OpenSql {
    async fn ask(&self, values: Vec<Json>) -> Result<Share, Failure> {
        let Some(batches) = &self.batches else {
            let SqlAnswer { rows, affected } = self.statement.run(&values, self.plan.limits).await?;
            return Ok(Share { rows, affected: Some(affected) });
        };
        let Sql { limits, numbered, .. } = self.plan;
        let statement = Arc::clone(&self.statement);
        let send = |records, _| Box::pin(batch::carry_out(statement, limits, records, numbered)) as Asking<_>;
        let size = values.iter().map(weight).sum();
        batches.ask(Vec::new(), (values, size), send).await
    }

    /// How many rows were touched in how many transactions, the last of which found none.
    async fn repeat(&self, values: &[Json], item: &Item<'_>, step: &str) -> Result<(u64, u64), Failure> {
        let (mut affected, mut batches) = (0, 0);
        let job = |name| item.job.and_then(|facts| facts.job.get(name)?.as_str());
        let mut told = Instant::now();
        loop {
            let answer = self.statement.run(values, self.plan.limits).await?;
            affected += answer.affected;
            batches += 1;
            if answer.affected == 0 {
                tracing::info!(
                    step,
                    kind = job("kind"),
                    job = job("id"),
                    affected,
                    batches,
                    "nothing is left"
                );
                return Ok((affected, batches));
            }
            if told.elapsed() >= TELL {
                told = Instant::now();
                tracing::info!(step, kind = job("kind"), job = job("id"), affected, batches, "goes on");
            }
        }
    }
}

impl Sql {
    fn put(&self, item: &mut Item<'_>, name: &Arc<str>, answer: Share) -> Result<(), Failure> {
        if self.shape == Shape::Row && answer.rows.len() > 1 {
            let message = format!("the statement gave {} rows where one was expected", answer.rows.len());
            return Err(Failure::permanent("sql-rows", message));
        }
        if let Some(path) = &self.into {
            let rows = match self.shape {
                Shape::Rows => Json::Array(answer.rows.clone()),
                Shape::Row => answer.rows.first().cloned().unwrap_or(Json::Null),
            };
            path.set(item.value_mut()?, rows)?;
        }
        item.set_result(name, json!({ "rows": answer.rows, "affected": answer.affected }));
        Ok(())
    }
}
