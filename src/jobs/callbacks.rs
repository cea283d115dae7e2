//! Taking what callbacks bring.

use tracing::warn;

use crate::store::{CallBack, Database, SecretHash, StoreResult};

/// Takes the answer that a callback brings, as JSON text; its job goes on at once.
///
/// # Errors
/// Those of the database.
pub async fn call_back(database: &Database, token: &str, answer: &str) -> StoreResult<CallBack> {
    let called = database.call_back(SecretHash::of(token), answer).await?;
    if let CallBack::Taken(job) = called
        && let Err(error) = database.promote_one(job).await
    {
        warn!(%job, %error, "a job that was called back goes on with the next promotion");
    }
    Ok(called)
}
