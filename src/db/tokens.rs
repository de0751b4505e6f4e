//! The issued tokens as the database knows them: by id, never by their text. One that is not here sees nothing.
#![allow(clippy::disallowed_methods, reason = "an administrator's own connection, not one of the request path's")]

use chrono::{DateTime, Utc};

use super::admin::Admin;
use super::principals::{PrincipalError, as_owner};
use crate::domain::{Principal, TokenId};
use crate::identity::IssuedToken;

/// A token as it is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Its id.
    pub id: String,
    /// For whom.
    pub principal: String,
    /// When it was issued.
    pub issued: DateTime<Utc>,
    /// When it ends.
    pub expires: DateTime<Utc>,
    /// When it was revoked, if it was.
    pub revoked: Option<DateTime<Utc>>,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The database, or the principal.
    #[error(transparent)]
    Principal(#[from] PrincipalError),
    /// No such token.
    #[error("there is no token {0}; `rowgate token list` shows them")]
    Unknown(String),
}

impl From<tokio_postgres::Error> for TokenError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Principal(error.into())
    }
}

/// Registers a token that was signed for a principal who is registered. Without this it sees nothing.
pub async fn register(admin: &mut Admin, principal: &Principal, token: &IssuedToken) -> Result<(), TokenError> {
    let transaction = as_owner(admin).await.map_err(PrincipalError::from)?;
    let id = principal.as_str();
    if transaction.query_opt("select from rowgate.principals where principal = $1", &[&id]).await?.is_none() {
        return Err(PrincipalError::Unknown(id.to_owned()).into());
    }
    transaction
        .execute(
            "insert into rowgate.tokens (token_id, principal, expires_at) values ($1, $2, $3)",
            &[&token.id().as_str(), &id, &token.expires()],
        )
        .await?;
    Ok(transaction.commit().await?)
}

/// Revokes a token: calls with it are refused from now on.
pub async fn revoke(admin: &mut Admin, token: &TokenId) -> Result<(), TokenError> {
    let transaction = as_owner(admin).await.map_err(PrincipalError::from)?;
    let id = token.as_str();
    let revoked = transaction
        .execute("update rowgate.tokens set revoked_at = coalesce(revoked_at, now()) where token_id = $1", &[&id])
        .await?;
    if revoked == 0 {
        return Err(TokenError::Unknown(id.to_owned()));
    }
    Ok(transaction.commit().await?)
}

/// All tokens, the newest first.
pub async fn list(admin: &mut Admin) -> Result<Vec<Registered>, TokenError> {
    let transaction = as_owner(admin).await.map_err(PrincipalError::from)?;
    let rows = transaction
        .query(
            "select token_id, principal, issued_at, expires_at, revoked_at from rowgate.tokens order by issued_at desc, 1",
            &[],
        )
        .await?;
    let read = |row: &tokio_postgres::Row| {
        Ok(Registered {
            id: row.try_get(0)?,
            principal: row.try_get(1)?,
            issued: row.try_get(2)?,
            expires: row.try_get(3)?,
            revoked: row.try_get(4)?,
        })
    };
    Ok(rows.iter().map(read).collect::<Result<_, tokio_postgres::Error>>()?)
}
