//! Who may ask and what of, as an administrator keeps it. Every change is noted with who made it.
#![allow(clippy::disallowed_methods, reason = "an administrator's own connection, not one of the request path's")]

use chrono::{DateTime, Utc};
use tokio_postgres::Transaction;

use super::admin::{Admin, AdminError};
use crate::domain::Principal;

/// What a principal may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sees {
    /// Every store there is, and those to come.
    AllStores,
    /// These stores, by their ids.
    Stores(Vec<i32>),
}

/// A principal as it is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// As the identity provider names it: an object id, `group:<id>` or `role:<name>`.
    pub principal: String,
    /// For people.
    pub name: String,
    /// What it may see.
    pub sees: Sees,
}

/// A change of who may see what.
#[derive(Clone, Debug)]
pub struct Change {
    /// When.
    pub at: DateTime<Utc>,
    /// The login role that made it.
    pub by: String,
    /// The table: principals, principal_stores, stores, tokens or claim_keys.
    pub subject: String,
    /// `insert`, `update` or `delete`.
    pub action: String,
    /// What was changed, before and after, as JSON.
    pub before: Option<String>,
    /// After.
    pub after: Option<String>,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum PrincipalError {
    /// The database.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// Stores that there are not.
    #[error("there is no store {0}; the stores are {1}")]
    NoSuchStore(i32, String),
    /// No such principal.
    #[error("nobody is registered as {0}; `rowgate principal list` shows who is")]
    Unknown(String),
}

impl From<tokio_postgres::Error> for PrincipalError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Admin(error.into())
    }
}

/// Begins a transaction as the owner of Rowgate's tables.
pub(super) async fn as_owner(admin: &mut Admin) -> Result<Transaction<'_>, AdminError> {
    let transaction = admin.transaction().await?;
    transaction.batch_execute("set local role rowgate_owner").await?;
    Ok(transaction)
}

/// Registers a principal, or sets right what it may see. `name` as it is unless given.
pub async fn add(
    admin: &mut Admin,
    principal: &Principal,
    name: Option<&str>,
    sees: &Sees,
) -> Result<(), PrincipalError> {
    let transaction = as_owner(admin).await?;
    let id = principal.as_str();
    let all = *sees == Sees::AllStores;
    transaction
        .execute(
            "insert into rowgate.principals (principal, display_name, all_stores) values ($1, coalesce($2, $1), $3)
             on conflict (principal) do update
                set display_name = coalesce($2, principals.display_name), all_stores = excluded.all_stores
              where (principals.display_name, principals.all_stores)
                    is distinct from (coalesce($2, principals.display_name), excluded.all_stores)",
            &[&id, &name, &all],
        )
        .await?;
    let stores: &[i32] = match sees {
        Sees::AllStores => &[],
        Sees::Stores(stores) => stores,
    };
    for store in stores {
        if transaction.query_opt("select from rowgate.stores where store_id = $1", &[store]).await?.is_none() {
            let known = transaction
                .query_one(
                    "select coalesce(string_agg(store_id::text, ', ' order by store_id), 'none') from rowgate.stores",
                    &[],
                )
                .await?;
            return Err(PrincipalError::NoSuchStore(*store, known.try_get(0)?));
        }
    }
    transaction
        .execute("delete from rowgate.principal_stores where principal = $1 and store_id <> all ($2)", &[&id, &stores])
        .await?;
    transaction
        .execute(
            "insert into rowgate.principal_stores (principal, store_id) select $1, unnest($2::int[]) on conflict do nothing",
            &[&id, &stores],
        )
        .await?;
    Ok(transaction.commit().await?)
}

/// Removes a principal, and with it its tokens.
pub async fn remove(admin: &mut Admin, principal: &Principal) -> Result<(), PrincipalError> {
    let transaction = as_owner(admin).await?;
    let id = principal.as_str();
    if transaction.execute("delete from rowgate.principals where principal = $1", &[&id]).await? == 0 {
        return Err(PrincipalError::Unknown(id.to_owned()));
    }
    Ok(transaction.commit().await?)
}

/// All principals, by name.
pub async fn list(admin: &mut Admin) -> Result<Vec<Registered>, PrincipalError> {
    let transaction = as_owner(admin).await?;
    let rows = transaction
        .query(
            "select principal, display_name, all_stores,
                    array(select store_id from rowgate.principal_stores s where s.principal = p.principal order by 1)
               from rowgate.principals p order by display_name, principal",
            &[],
        )
        .await?;
    let read = |row: &tokio_postgres::Row| {
        let sees = if row.try_get(2)? { Sees::AllStores } else { Sees::Stores(row.try_get(3)?) };
        Ok(Registered { principal: row.try_get(0)?, name: row.try_get(1)?, sees })
    };
    Ok(rows.iter().map(read).collect::<Result<_, tokio_postgres::Error>>()?)
}

/// The latest changes, the newest first.
pub async fn changes(admin: &mut Admin, most: i64) -> Result<Vec<Change>, PrincipalError> {
    let transaction = as_owner(admin).await?;
    let rows = transaction
        .query(
            "select changed_at, changed_by, subject, action, before::text, after::text
               from rowgate.changes order by change_id desc limit $1",
            &[&most],
        )
        .await?;
    let read = |row: &tokio_postgres::Row| {
        Ok(Change {
            at: row.try_get(0)?,
            by: row.try_get(1)?,
            subject: row.try_get(2)?,
            action: row.try_get(3)?,
            before: row.try_get(4)?,
            after: row.try_get(5)?,
        })
    };
    Ok(rows.iter().map(read).collect::<Result<_, tokio_postgres::Error>>()?)
}
