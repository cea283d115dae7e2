//! The table that says how far stages are, in a database that is not the engine's own.

use std::sync::Arc;

use sqlx::Connection;

use super::pools::{StepDatabases, named};
use crate::steps::ports::Database;
use crate::store::connect::open_at;
use crate::store::error::StoreResult;
use crate::store::migrations::STAGE_OFFSET;

impl StepDatabases {
    /// Makes the table, and its schema, where they are not there; whether they were not. With `dry_run` nothing is
    /// made.
    ///
    /// # Errors
    /// Those of connecting, and where the role may not.
    pub async fn make_stage_offset(&self, database: &Arc<Database>, dry_run: bool) -> StoreResult<bool> {
        let place = format!("database `{}`", database.name);
        let mut connection = open_at(&named(database)?, &place).await?;
        let schema = self.schema();
        let there: bool = sqlx::query_scalar("select to_regclass($1) is not null")
            .bind(schema.render("biplane.stage_offset"))
            .fetch_one(&mut connection)
            .await?;
        if !there && !dry_run {
            let mut transaction = connection.begin().await?;
            let make = sqlx::AssertSqlSafe(format!("create schema if not exists \"{schema}\""));
            sqlx::raw_sql(make).execute(&mut *transaction).await?;
            sqlx::raw_sql(schema.sql(STAGE_OFFSET)).execute(&mut *transaction).await?;
            transaction.commit().await?;
        }
        let _ = connection.close().await;
        Ok(!there)
    }
}
