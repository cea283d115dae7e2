//! Bearer tokens: who may ask an engine over HTTP, and for what. Only hashes are kept.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use sqlx::Row;

use super::connect::Database;
use super::error::StoreResult;
use super::secret::{SecretHash, secret};

/// What every token begins with, so that one that leaks is known for what it is.
const PREFIX: &str = "bpl_";

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Looking, without args and results.
    Read,
    /// Looking at args and results, beside `read`.
    Payload,
    /// Enqueueing and what operators do; `read` as well.
    Operate,
    /// What pull workers do with the jobs that they claim.
    Work,
    /// Everything.
    Admin,
}

/// Scopes that somebody has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scopes(pub Vec<Scope>);

/// A token as it is given out, once.
#[derive(Clone)]
pub struct NewToken {
    /// Its number.
    pub id: i64,
    /// What its bearer shows.
    pub text: String,
}

/// Who shows a valid token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// The token's name.
    pub name: String,
    /// What it is good for.
    pub scopes: Scopes,
}

/// A token as it is listed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TokenRow {
    /// Its number, as text.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it is good for.
    pub scopes: Vec<String>,
    /// `valid`, `expired` or `revoked`.
    pub state: String,
    /// Who made it.
    pub created_by: String,
    /// Seconds since it was made.
    pub age_seconds: f64,
    /// Seconds until it expires; `None`: never.
    pub left_seconds: Option<f64>,
}

impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewToken").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Scope {
    const ALL: [Self; 5] = [Self::Read, Self::Payload, Self::Operate, Self::Work, Self::Admin];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Payload => "payload",
            Self::Operate => "operate",
            Self::Work => "work",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|scope| scope.as_str() == word)
            .ok_or_else(|| "expected read, payload, operate, work or admin".to_owned())
    }
}

impl Scopes {
    /// All there are.
    pub fn all() -> Self {
        Self(vec![Scope::Admin])
    }

    /// Whether they are good for what needs `scope`.
    pub fn have(&self, scope: Scope) -> bool {
        self.0.iter().any(|has| match has {
            Scope::Admin => true,
            Scope::Operate => matches!(scope, Scope::Operate | Scope::Read),
            Scope::Read | Scope::Payload | Scope::Work => *has == scope,
        })
    }
}

impl Database {
    /// Makes a token, whose text is nowhere but in the answer. It expires that many seconds from now, if ever.
    ///
    /// # Errors
    /// [`StoreError::Refused`](super::StoreError::Refused) with `23505` where a valid token has that name, `23514`
    /// for a name that is none; those of the database.
    pub async fn create_token(
        &self,
        name: &str,
        scopes: &[Scope],
        seconds: Option<i64>,
        actor: &str,
    ) -> StoreResult<NewToken> {
        let secret = secret();
        let create = self.schema().sql(include_str!("sql/token/create.sql"));
        let id: i64 = sqlx::query_scalar(create)
            .bind(name)
            .bind(SecretHash::of(&secret).bytes().to_vec())
            .bind(scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>())
            .bind(actor)
            .bind(seconds)
            .fetch_one(self.pool())
            .await?;
        Ok(NewToken { id, text: format!("{PREFIX}{id}_{secret}") })
    }

    /// Lets a token, named by its name or number, open nothing any more. `false`: there is no such, or not any more.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn revoke_token(&self, token: &str, actor: &str) -> StoreResult<bool> {
        let revoke = self.schema().sql(include_str!("sql/token/revoke.sql"));
        let gone: i64 = sqlx::query_scalar(revoke).bind(token).bind(actor).fetch_one(self.pool()).await?;
        Ok(gone > 0)
    }

    /// Whose token that is; `None`: nobody's, or not any more.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn bearer(&self, text: &str) -> StoreResult<Option<Bearer>> {
        let Some((id, secret)) = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')) else {
            return Ok(None);
        };
        let Ok(id) = id.parse::<i64>() else { return Ok(None) };
        let find = self.schema().sql(include_str!("sql/token/find.sql"));
        let Some(row) = sqlx::query(find).bind(id).fetch_optional(self.pool()).await? else {
            return Ok(None);
        };
        let (hash, scopes): (Vec<u8>, Vec<String>) = (row.try_get(1)?, row.try_get(2)?);
        if !SecretHash::of(secret).equals(&hash) {
            return Ok(None);
        }
        let scopes = scopes.iter().filter_map(|word| word.parse().ok()).collect();
        Ok(Some(Bearer { name: row.try_get(0)?, scopes: Scopes(scopes) }))
    }

    /// Every token that was made, oldest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn tokens(&self) -> StoreResult<Vec<TokenRow>> {
        let list = self.schema().sql(include_str!("sql/token/list.sql"));
        let rows = sqlx::query(list).fetch_all(self.pool()).await?;
        rows.iter()
            .map(|row| {
                Ok(TokenRow {
                    id: row.try_get(0)?,
                    name: row.try_get(1)?,
                    scopes: row.try_get(2)?,
                    state: row.try_get(3)?,
                    created_by: row.try_get(4)?,
                    age_seconds: row.try_get(5)?,
                    left_seconds: row.try_get(6)?,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_good_for_what_it_says_and_no_more() {
        let table = [
            (Scope::Read, [true, false, false, false, false]),
            (Scope::Payload, [false, true, false, false, false]),
            (Scope::Operate, [true, false, true, false, false]),
            (Scope::Work, [false, false, false, true, false]),
            (Scope::Admin, [true; 5]),
        ];
        for (has, good) in table {
            let scopes = Scopes(vec![has]);
            let asked = Scope::ALL.map(|ask| scopes.have(ask));
            assert_eq!(asked, good, "{has:?}");
        }
        assert!(!Scopes::default().have(Scope::Read));
    }

    #[test]
    fn a_token_is_shown_once_and_in_no_log() {
        let token = NewToken { id: 1, text: "canary".to_owned() };
        assert!(!format!("{token:?}").contains("canary"));
    }
}
