//! Requests that bear a key, so that they may be sent again: what they came to is known for a day.

use sha2::{Digest, Sha256};
use sqlx::Row;

use super::connect::Database;
use super::enqueue::{JobOptions, with_options};
use super::error::StoreResult;
use super::ids::JobId;

/// How many requests one statement forgets.
const PAGE: i64 = 10_000;

/// A request with a key of its sender's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyedRequest {
    key: [u8; 32],
    print: [u8; 32],
}

/// What a request came to that may have been sent before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Once {
    /// The jobs that it enqueued, now or then; `None` where another job held the unique key.
    Jobs(Vec<Option<JobId>>),
    /// Its key belongs to another request.
    Other,
}

impl KeyedRequest {
    /// Of `sender` to `path`. Keys of others are others, and so are those of other paths.
    pub fn new(sender: &str, path: &str, key: &str, body: &[u8]) -> Self {
        let mut whole = Sha256::new();
        for part in [sender, path, key] {
            whole.update((part.len() as u64).to_le_bytes());
            whole.update(part);
        }
        Self { key: whole.finalize().into(), print: Sha256::digest(body).into() }
    }
}

impl Database {
    /// What a request came to, if it was carried out within the last day.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn asked_before(&self, request: &KeyedRequest) -> StoreResult<Option<Once>> {
        let known = self.schema().sql(
            "select case when print = $2 then ids end from biplane.request
             where key = $1 and made_at > now() - biplane.request_kept()",
        );
        let query = sqlx::query(known).bind(request.key.to_vec()).bind(request.print.to_vec());
        let row = query.fetch_optional(self.pool()).await?;
        row.map(|row| Ok(once(row.try_get(0)?))).transpose()
    }

    /// As [`Database::enqueue_many`], or [`Database::enqueue`] where `many` is false and there is one of each, unless
    /// the request was carried out within the last day. One that is under way is waited for.
    ///
    /// # Errors
    /// As [`Database::enqueue`]; what is refused is not known afterwards.
    pub async fn enqueue_request(
        &self,
        request: &KeyedRequest,
        many: bool,
        kind: &str,
        args: &[&str],
        unique_keys: Option<&[&str]>,
        options: &JobOptions,
    ) -> StoreResult<Once> {
        let enqueue = self.schema().sql(
            "select biplane.enqueue_request($1, $2, $3, $4, $5::text[]::jsonb[], $6, $7::text::timestamptz, $8, $9,
                $10::text::timestamptz, $11)",
        );
        let query = sqlx::query(enqueue)
            .bind(request.key.to_vec())
            .bind(request.print.to_vec())
            .bind(many)
            .bind(kind)
            .bind(args)
            .bind(unique_keys);
        let row = with_options(query, options).fetch_one(self.pool()).await?;
        Ok(once(row.try_get(0)?))
    }

    /// Forgets requests that are a day old or older. Returns how many.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn forget_requests(&self) -> StoreResult<u64> {
        let forget = "delete from biplane.request where key = any (array(
            select key from biplane.request where made_at <= now() - biplane.request_kept() limit $1))";
        let mut forgotten = 0;
        loop {
            let gone = sqlx::query(self.schema().sql(forget)).bind(PAGE).execute(self.pool()).await?;
            forgotten += gone.rows_affected();
            if gone.rows_affected() < PAGE.unsigned_abs() {
                return Ok(forgotten);
            }
        }
    }
}

fn once(ids: Option<Vec<Option<i64>>>) -> Once {
    ids.map_or(Once::Other, |ids| Once::Jobs(ids.into_iter().map(|id| id.map(JobId)).collect()))
}
