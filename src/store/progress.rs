//! What of a job is remembered between its attempts.

use super::connect::Database;
use super::error::StoreResult;
use super::ids::JobId;

impl Database {
    /// What the steps of a job gave in earlier attempts, as the outcome of the last one wrote it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn kept(&self, job: JobId) -> StoreResult<Option<String>> {
        let kept = self.schema().sql("select kept from biplane.progress where job_id = $1");
        let kept: Option<Option<String>> =
            sqlx::query_scalar(kept).bind(job.0).fetch_optional(self.pool()).await?;
        Ok(kept.flatten())
    }

    /// Forgets what is remembered of jobs whose payloads are gone; those that end under a lease leave nothing. Says
    /// of how many.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn forget(&self) -> StoreResult<u64> {
        let forget = self.schema().sql(
            "delete from biplane.progress p where not exists (select from biplane.job j where j.id = p.job_id)",
        );
        Ok(sqlx::query(forget).execute(self.pool()).await?.rows_affected())
    }
}
