//! What the server infers of a statement: the types of its values and of its columns.

use std::sync::Arc;

use sqlx::{Column, Either, Executor, PgConnection, Row, SqlSafeStr, Statement};

use super::decode;
use super::encode::Takes;
use super::failed::failed;
use crate::base::Failure;
use crate::steps::ports::{RECORD, SqlText};

/// A statement whose types are known.
pub(super) struct Learned {
    /// Its text, each value cast from text.
    pub(super) sql: Arc<str>,
    /// How each value is written.
    pub(super) takes: Vec<Takes>,
}

/// Asks the server; `whom` names it for people.
pub(super) async fn learn(
    connection: &mut PgConnection,
    text: &SqlText,
    whom: &str,
) -> Result<Learned, Failure> {
    let failed = |error| failed(error, whom);
    let numbered: Arc<str> = text.numbered(|_, number| number).into();
    let asked = sqlx::AssertSqlSafe(Arc::clone(&numbered)).into_sql_str();
    let statement = connection.prepare(asked).await.map_err(failed)?;
    let columns = statement.columns();
    if text.batched && !columns.is_empty() && columns.iter().all(|column| column.name() != RECORD) {
        let message =
            format!("the rows of a batch need a column `{RECORD}`, the number of their record from 1");
        return Err(Failure::permanent("sql-record", message));
    }
    for column in columns {
        if !decode::is_known(column.type_info()) {
            return Err(decode::unknown(column.name(), column.type_info()));
        }
    }
    let oids: Vec<_> = match statement.parameters() {
        Some(Either::Left(types)) => types.iter().filter_map(sqlx::postgres::PgTypeInfo::oid).collect(),
        _ => Vec::new(),
    };
    if oids.is_empty() {
        return Ok(Learned { sql: numbered, takes: Vec::new() });
    }
    let (mut names, mut takes) = (Vec::new(), Vec::new());
    let types = sqlx::query(include_str!("../sql/statement/types.sql")).bind(oids);
    for row in types.fetch_all(connection).await.map_err(failed)? {
        let read = || Ok((row.try_get::<String, _>(0)?, row.try_get(1)?, row.try_get(2)?));
        let (name, list, json) = read().map_err(failed)?;
        names.push(name);
        takes.push(Takes { list, json });
    }
    let cast = |place: usize, number: String| match names.get(place) {
        Some(name) => format!("cast({number}::text as {name})"),
        None => number,
    };
    Ok(Learned { sql: text.numbered(cast).into(), takes })
}
