//! Statements that may pass a pooler in transaction mode which keeps no prepared statements.
//!
//! Preparing and carrying out are two messages, and such a pooler may send them to two servers. There each statement
//! has no name and a transaction of its own, which keeps its parts together, for two more round trips.

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use sqlx::postgres::{PgArguments, PgPool, PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Acquire, Either, Execute, Executor, Postgres, SqlStr};

use super::connect::acquire;

/// Where a statement is carried out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Statements<'a> {
    pub(super) pool: &'a PgPool,
    /// Each in a transaction of its own, and none is prepared for the next.
    pub(super) alone: bool,
}

impl<'c> Executor<'c> for Statements<'c> {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let answer = async move {
            let mut connection = acquire(self.pool).await?;
            let answer: Vec<_> = if self.alone {
                let mut transaction = connection.begin().await?;
                let answer = transaction.as_mut().fetch_many(Unnamed(query)).try_collect().await?;
                transaction.commit().await?;
                answer
            } else {
                connection.fetch_many(query).try_collect().await?
            };
            Ok::<_, sqlx::Error>(stream::iter(answer.into_iter().map(Ok)))
        };
        stream::once(answer).try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        Box::pin(async move {
            let mut connection = acquire(self.pool).await?;
            if !self.alone {
                return connection.fetch_optional(query).await;
            }
            let mut transaction = connection.begin().await?;
            let answer = transaction.as_mut().fetch_optional(Unnamed(query)).await?;
            transaction.commit().await?;
            Ok(answer)
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        self.pool.prepare_with(sql, parameters)
    }
}

/// A query that leaves nothing behind on the server.
struct Unnamed<E>(E);

impl<'q, E: Execute<'q, Postgres>> Execute<'q, Postgres> for Unnamed<E> {
    fn sql(self) -> SqlStr {
        self.0.sql()
    }

    fn statement(&self) -> Option<&PgStatement> {
        self.0.statement()
    }

    fn take_arguments(&mut self) -> Result<Option<PgArguments>, sqlx::error::BoxDynError> {
        self.0.take_arguments()
    }

    fn persistent(&self) -> bool {
        false
    }
}
