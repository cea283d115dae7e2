//! What brings jobs back: rescue of what dead workers held, promotion of what has become due.

use sqlx::Row;
use tracing::warn;

use super::connect::Database;
use super::error::StoreResult;
use super::ids::JobId;
use crate::base::guard::{self, Guard};
use crate::base::now_millis;

/// How many leases one statement takes back.
const LEASES: i64 = 20;

/// How many jobs one statement promotes.
const PAGE: i64 = 500;

/// What a rescue took back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rescued {
    /// Leases past their deadline.
    pub batches: i64,
    /// Jobs that are due again.
    pub returned: i64,
    /// Jobs whose workers died with them alone until no attempt was left.
    pub failed: i64,
}

/// What a promotion moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Promoted {
    /// Jobs that were due.
    pub due: i64,
    /// Jobs among them that ended because another holds their unique key now.
    pub superseded: i64,
    /// Jobs that could not be moved and were put off by a minute; the log says why.
    pub put_off: i64,
}

impl Database {
    /// Takes back everything that leases past their deadline hold, by the database's clock. Any number of
    /// engines may do so at once.
    ///
    /// # Errors
    /// Those of the database; what was taken back before stays so.
    pub async fn rescue(&self) -> StoreResult<Rescued> {
        let mut all = Rescued::default();
        let rescue = letting_go!("sql/lease/rescue.sql");
        let rescue = if guard::removed(Guard::DatabaseClock) {
            &rescue.replace("now()", &format!("to_timestamp({} / 1000.0)", now_millis()))
        } else {
            rescue
        };
        loop {
            let row = sqlx::query(self.schema().sql(rescue)).bind(LEASES).fetch_one(self.pool()).await?;
            let page =
                Rescued { batches: row.try_get(0)?, returned: row.try_get(1)?, failed: row.try_get(2)? };
            all.batches += page.batches;
            all.returned += page.returned;
            all.failed += page.failed;
            if page.batches < LEASES {
                return Ok(all);
            }
        }
    }

    /// Moves what has become due to its queue, page by page. A job that cannot be moved is put off and
    /// blocks no other.
    ///
    /// # Errors
    /// Those of the database that concern more than one job; what was moved before stays so.
    pub async fn promote(&self) -> StoreResult<Promoted> {
        let mut all = Promoted::default();
        loop {
            let page = match self.promote_page(None).await {
                Err(error) if !error.is_transient() => self.promote_singly().await?,
                page => page?,
            };
            all.due += page.due;
            all.superseded += page.superseded;
            all.put_off += page.put_off;
            if page.due < PAGE {
                return Ok(all);
            }
        }
    }

    /// Moves one job to its queue, where it is due and nobody else does so just now.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn promote_one(&self, job: JobId) -> StoreResult<Promoted> {
        self.promote_page(Some(job.0)).await
    }

    async fn promote_page(&self, only: Option<i64>) -> StoreResult<Promoted> {
        let promote = self.schema().sql(include_str!("sql/deferred/promote.sql"));
        let row = sqlx::query(promote).bind(PAGE).bind(only).fetch_one(self.pool()).await?;
        Ok(Promoted { due: row.try_get(0)?, superseded: row.try_get(1)?, put_off: 0 })
    }

    /// The same page job by job, after it failed as a whole.
    async fn promote_singly(&self) -> StoreResult<Promoted> {
        let due = self
            .schema()
            .sql("select job_id from biplane.deferred where run_at <= now() order by run_at limit $1");
        let due: Vec<i64> = sqlx::query_scalar(due).bind(PAGE).fetch_all(self.pool()).await?;
        let mut all = Promoted::default();
        for job in due {
            match self.promote_page(Some(job)).await {
                Ok(one) => {
                    all.due += one.due;
                    all.superseded += one.superseded;
                }
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => {
                    warn!(job, %error, "a job that is due cannot be moved to its queue; put off by a minute");
                    let put_off = self.schema().sql(
                        "update biplane.deferred set run_at = now() + interval '1 minute' where job_id = $1",
                    );
                    sqlx::query(put_off).bind(job).execute(self.pool()).await?;
                    all.due += 1;
                    all.put_off += 1;
                }
            }
        }
        Ok(all)
    }
}
