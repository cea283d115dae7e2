//! Callbacks that jobs wait for: given away by attempts, answered once, by whoever has the token.

use sqlx::Row;

use super::connect::Database;
use super::error::{StoreError, StoreResult};
use super::ids::JobId;
use super::secret::SecretHash;

/// What became of a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallBack {
    /// Its job goes on with what it brought.
    Taken(JobId),
    /// It was answered before.
    Double,
    /// Nobody waits for it any more.
    Late,
    /// No such callback is known, or not any more.
    Unknown,
}

/// What an attempt finds of the callback that its job waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// What it brought, as JSON text.
    Answer(String),
    /// It did not come in time.
    Nothing,
}

impl Database {
    /// Makes a token one that the job can be called back by.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn expect_callback(&self, job: JobId, token: SecretHash) -> StoreResult<()> {
        let expect = self.schema().sql("insert into biplane.callback (token_hash, job_id) values ($1, $2)");
        sqlx::query(expect).bind(token.bytes()).bind(job.0).execute(self.pool()).await?;
        Ok(())
    }

    /// What came of the callback that a job waited for; `None`: it waited for none.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn heard(&self, job: JobId) -> StoreResult<Option<Heard>> {
        let heard = self.schema().sql(include_str!("sql/callback/heard.sql"));
        let Some(row) = sqlx::query(heard).bind(job.0).fetch_optional(self.pool()).await? else {
            return Ok(None);
        };
        Ok(Some(row.try_get::<Option<String>, _>(0)?.map_or(Heard::Nothing, Heard::Answer)))
    }

    /// Takes what a callback brings, as JSON text. Its job is due at once.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn call_back(&self, token: SecretHash, answer: &str) -> StoreResult<CallBack> {
        let call = self.schema().sql(include_str!("sql/callback/call.sql"));
        let row = sqlx::query(call).bind(token.bytes()).bind(answer).fetch_one(self.pool()).await?;
        let word: String = row.try_get(0)?;
        Ok(match &*word {
            "taken" => CallBack::Taken(JobId(row.try_get(1)?)),
            "double" => CallBack::Double,
            "late" => CallBack::Late,
            "unknown" => CallBack::Unknown,
            other => {
                let message = format!("a callback came to `{other}`, which is unheard of");
                return Err(StoreError::Other { retriable: false, message });
            }
        })
    }

    /// Forgets callbacks that are `days` old or older and that nobody waits for. Says how many.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn drop_callbacks(&self, days: i32) -> StoreResult<u64> {
        let drop = self.schema().sql(include_str!("sql/callback/drop.sql"));
        Ok(sqlx::query(drop).bind(days).execute(self.pool()).await?.rows_affected())
    }
}
