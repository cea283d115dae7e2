//! Where stages stand that are exactly-once in a database, and what changes in one transaction with it.

use std::ops::Range;
use std::sync::Arc;

use serde_json::Value as Json;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row};
use tokio::time::timeout;

use super::failed::failed;
use super::held::Held;
use super::run::{Broken, PREPARING, Prepared, too_long, within};
use crate::base::Failure;
use crate::base::guard::{self, Guard};
use crate::steps::ports::{BoxedSql, Effect, Effects, Place, StageOffsets, Stretch, Written};
use crate::store::schema::Schema;

/// Codes of failures that say nothing of what was asked: the connection, a server that ends, starts or is full, a
/// database that is not there, one that takes no writes.
const NOT_ITS_OWN: [&str; 9] =
    ["connection", "sql-busy", "sql-08", "sql-25", "sql-28", "sql-3d", "sql-53", "sql-57p", "sql-58"];

/// Those of one database, and what one stage changes there.
pub(super) struct Offsets {
    pool: PgPool,
    schema: Schema,
    whom: String,
    changes: Vec<Change>,
    /// How many records share a statement at most.
    shared: usize,
}

/// What a step changes.
struct Change {
    step: Arc<str>,
    effect: Effect,
    statement: Prepared,
}

/// Why a transaction came to nothing.
struct Stopped {
    failure: Failure,
    /// Among which of the records the culprit is; `None`: it is none of theirs.
    among: Option<Range<usize>>,
}

impl Offsets {
    pub(super) fn new(pool: PgPool, schema: Schema, whom: String, effects: Vec<(Arc<str>, Effect)>) -> Self {
        let shared = effects.iter().map(|(_, effect)| effect.batch.unwrap_or(1)).min().unwrap_or(1);
        let prepared = |(step, effect): (Arc<str>, Effect)| {
            let statement = Prepared::new(pool.clone(), Arc::clone(&effect.asked.text), whom.clone());
            Change { step, effect, statement }
        };
        Self { changes: effects.into_iter().map(prepared).collect(), pool, schema, whom, shared }
    }

    fn failed(&self, error: sqlx::Error) -> Failure {
        failed(error, &self.whom)
    }

    /// Asks one statement for places, each with an offset, in a transaction of its own; a value for each place.
    async fn ask(&self, sql: &str, places: &[(Place, i64)]) -> Result<Vec<Option<i64>>, Failure> {
        let mut held = Held::begin(&self.pool, PREPARING).await.map_err(|error| self.failed(error))?;
        let mut groups = Vec::with_capacity(places.len());
        let (mut topics, mut partitions, mut offsets) = (Vec::new(), Vec::new(), Vec::new());
        for (place, offset) in places {
            groups.push(&*place.group);
            topics.push(&*place.topic);
            partitions.push(place.partition);
            offsets.push(*offset);
        }
        let query = sqlx::query(self.schema.sql(sql)).persistent(false);
        let query = query.bind(groups).bind(topics).bind(partitions).bind(offsets);
        let rows = query.fetch_all(&mut *held).await.map_err(|error| self.failed(error))?;
        let mut found = vec![None; places.len()];
        for row in rows {
            let (number, offset): (i64, i64) = (row.get(0), row.get(1));
            let at = usize::try_from(number - 1).ok().and_then(|index| found.get_mut(index));
            at.into_iter().for_each(|at| *at = Some(offset));
        }
        held.commit().await.map_err(|error| self.failed(error))?;
        Ok(found)
    }

    async fn write_all(&self, stretch: &Stretch) -> Result<Written, Failure> {
        let records = &stretch.records;
        let mut count = records.len();
        loop {
            let to = records.get(count).map_or(stretch.to, |(offset, _)| *offset);
            let Stopped { failure, among } = match self.attempt(stretch, &records[..count], to).await {
                Ok(true) => return Ok(Written::To(to)),
                Ok(false) => return Ok(Written::Elsewhere),
                Err(stopped) => stopped,
            };
            let its_own = !NOT_ITS_OWN.iter().any(|code| failure.code.starts_with(code));
            let Some(among) = among.filter(|_| its_own) else { return Err(failure) };
            if count == 1 {
                return Ok(Written::Refused(failure));
            }
            // What was carried out before is tried alone, and otherwise half of those among which it is.
            count = if among.start > 0 { among.start } else { (among.end / 2).max(1) };
        }
    }

    /// Whether the stage stood where it had to; the effects of `records` stand then, and it stands at `to`.
    async fn attempt(&self, stretch: &Stretch, records: &[(i64, Effects)], to: i64) -> Result<bool, Stopped> {
        let limit = self.changes.iter().map(|change| change.effect.limits.timeout).max().unwrap_or(PREPARING);
        let begun = Held::begin(&self.pool, limit).await;
        let mut held = begun.map_err(|error| Stopped::by_nobody(self.failed(error)))?;
        let moved = async { self.advance(&mut held, stretch, to).await.map_err(|error| self.failed(error)) };
        if !within(limit, moved).await.map_err(Stopped::by_nobody)? {
            // Where that fails the connection is closed, which comes to the same.
            let _ = held.roll_back().await;
            return Ok(false);
        }
        let mut begin = 0;
        for chunk in records.chunks(self.shared) {
            let among = begin..begin + chunk.len();
            begin = among.end;
            if let Err(Broken { failure, sound }) = self.change(&mut held, chunk).await {
                if sound {
                    let _ = held.roll_back().await;
                }
                return Err(Stopped { failure, among: Some(among) });
            }
        }
        let ended = within(limit, async { held.commit().await.map_err(|error| self.failed(error)) });
        // Constraints may be judged there.
        let among = (!records.is_empty()).then_some(0..records.len());
        ended.await.map_err(|failure| Stopped { failure, among })?;
        Ok(true)
    }

    /// Carries out what these records change.
    async fn change(&self, held: &mut Held, records: &[(i64, Effects)]) -> Result<(), Broken> {
        for (place, Change { step, effect, statement }) in self.changes.iter().enumerate() {
            for values in values(effect, place, records) {
                let carrying = statement.carry_out_in(held, &values, effect.limits);
                let limit = effect.limits.timeout;
                let Ok(carried_out) = timeout(limit, carrying).await else {
                    return Err(Broken { failure: too_long(limit).in_step(step), sound: false });
                };
                carried_out.map_err(|broken| Broken { failure: broken.failure.in_step(step), ..broken })?;
            }
        }
        Ok(())
    }

    async fn advance(&self, connection: &mut PgConnection, stretch: &Stretch, to: i64) -> sqlx::Result<bool> {
        let mut sql = self.schema.render(include_str!("../sql/stage_offset/advance.sql"));
        if guard::removed(Guard::CompareAndSet) {
            sql = sql.replace("next_offset = $4", "$4 is not null");
        }
        let Place { group, topic, partition } = &stretch.place;
        let query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
        let query = query.bind(&**group).bind(&**topic).bind(partition).bind(stretch.from).bind(to);
        Ok(query.execute(connection).await?.rows_affected() == 1)
    }
}

/// The values with which a statement is carried out for these records, each time.
fn values(effect: &Effect, place: usize, records: &[(i64, Effects)]) -> Vec<Vec<Json>> {
    let own = records.iter().flat_map(|(_, effects)| effects);
    let own: Vec<_> = own.filter(|(of, _)| *of == place).map(|(_, values)| values.clone()).collect();
    match effect.batch {
        Some(_) if own.is_empty() => Vec::new(),
        Some(_) => vec![effect.together(&own)],
        None => own,
    }
}

impl Stopped {
    fn by_nobody(failure: Failure) -> Self {
        Self { failure, among: None }
    }
}

impl StageOffsets for Offsets {
    fn standing<'a>(&'a self, places: &'a [Place]) -> BoxedSql<'a, Vec<Option<i64>>> {
        Box::pin(async move {
            let places: Vec<_> = places.iter().map(|place| (place.clone(), 0)).collect();
            self.ask(include_str!("../sql/stage_offset/standing.sql"), &places).await
        })
    }

    fn begin<'a>(&'a self, places: &'a [(Place, i64)]) -> BoxedSql<'a, Vec<i64>> {
        Box::pin(async move {
            self.ask(include_str!("../sql/stage_offset/begin.sql"), places).await?;
            let found = self.ask(include_str!("../sql/stage_offset/standing.sql"), places).await?;
            let gone =
                || Failure::transient("sql-answer", format!("{}: a stage's offset is gone", self.whom));
            found.into_iter().map(|offset| offset.ok_or_else(gone)).collect()
        })
    }

    fn set<'a>(&'a self, places: &'a [(Place, i64)]) -> BoxedSql<'a, ()> {
        Box::pin(
            async move { self.ask(include_str!("../sql/stage_offset/set.sql"), places).await.map(|_| ()) },
        )
    }

    fn write<'a>(&'a self, stretch: &'a Stretch) -> BoxedSql<'a, Written> {
        Box::pin(self.write_all(stretch))
    }
}
