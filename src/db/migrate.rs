//! Migrations: in order, all that are missing in one transaction, one runner at a time, and never over a past
//! migration that was edited. Also makes the database accept exactly the claim keys that are set.
#![allow(clippy::disallowed_methods, reason = "an administrator's own connection, not one of the request path's")]

use sha2::{Digest, Sha256};
use tokio_postgres::Transaction;
use tokio_postgres::error::SqlState;

use super::admin::{Admin, AdminError};
use crate::identity::SigningKeys;

/// One step of the schema's history.
struct Migration {
    name: &'static str,
    sql: &'static str,
}

macro_rules! migrations {
    ($($name:literal),* $(,)?) => {
        &[$(Migration { name: $name, sql: include_str!(concat!("../../migrations/", $name, ".sql")) }),*]
    };
}

const CORE: &[Migration] = migrations![
    "core/0001_roles",
    "core/0002_caller",
    "core/0003_principals",
    "core/0004_one_look",
    "core/0005_plain_digits"
];
const RETAIL: &[Migration] = migrations!["retail/0001_schema", "retail/0002_policies"];

/// Any number that other programs do not use for their advisory locks: "rowgate" in ASCII.
const LOCK: i64 = 0x0072_6f77_6761_7465;

/// What a run did.
#[derive(Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The migrations that were missing.
    pub applied: Vec<&'static str>,
    /// How many there are now.
    pub total: usize,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// No connection, or a statement of the runner's failed.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// A migration failed.
    #[error("migration {name} failed, so nothing was changed")]
    Failed {
        /// Which.
        name: &'static str,
        /// Why.
        #[source]
        source: tokio_postgres::Error,
    },
    /// pgvector has to be made by somebody else.
    #[error(
        "the extension vector is not in this database and this administrator may not make it: \
         have a superuser run `create extension vector` once (on Azure, allow VECTOR in azure.extensions)"
    )]
    Vector(#[source] tokio_postgres::Error),
    /// A past migration is not what it was.
    #[error("migration {0} was edited after it had run: restore its text and write a new migration instead")]
    Edited(String),
    /// One that this program does not know.
    #[error("the database has migration {0}, which this program does not know: it is older than the database")]
    Unknown(String),
    /// A migration is missing before one that has run.
    #[error("migration {0} is missing, although a later one has run")]
    Gap(&'static str),
    /// No such set of migrations.
    #[error("the profile names migrations {0:?}; there is \"retail\"")]
    NoSuchSet(String),
    /// Too old.
    #[error("the server has version {0}; PostgreSQL 15 is the oldest that works")]
    Version(i32),
}

impl From<tokio_postgres::Error> for MigrateError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Admin(error.into())
    }
}

/// Brings a database up to date. `set`: the migrations of a data set, besides the core. `keys`: what the database shall
/// accept from now on; `None` leaves that as it is.
pub async fn migrate(
    admin: &mut Admin,
    set: Option<&str>,
    keys: Option<&SigningKeys>,
) -> Result<Migrated, MigrateError> {
    let sets: &[&[Migration]] = match set {
        None => &[CORE],
        Some("retail") => &[CORE, RETAIL],
        Some(other) => return Err(MigrateError::NoSuchSet(other.to_owned())),
    };
    let version: i32 =
        admin.query_one("select current_setting('server_version_num')::int / 10000", &[]).await?.try_get(0)?;
    if version < 15 {
        return Err(MigrateError::Version(version));
    }

    let transaction = admin.transaction().await?;
    transaction.execute("select pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    let past = past(&transaction).await?;
    for (name, _) in &past {
        if CORE.iter().chain(RETAIL).all(|known| known.name != name) {
            return Err(MigrateError::Unknown(name.clone()));
        }
    }

    let mut missing = Vec::new();
    for set in sets {
        let mut gap = None;
        for migration in *set {
            match past.iter().find(|(name, _)| name == migration.name) {
                Some((_, checksum)) if *checksum != migration.checksum() => {
                    return Err(MigrateError::Edited(migration.name.to_owned()));
                }
                Some(_) => {
                    if let Some(gap) = gap {
                        return Err(MigrateError::Gap(gap));
                    }
                }
                None => {
                    gap = Some(migration.name);
                    missing.push(migration);
                }
            }
        }
    }
    for migration in &missing {
        migration.apply(&transaction).await?;
    }
    let applied: Vec<_> = missing.iter().map(|migration| migration.name).collect();
    if let Some(keys) = keys {
        accept_keys(&transaction, keys).await?;
    }
    transaction.commit().await?;
    Ok(Migrated { total: past.len() + applied.len(), applied })
}

impl Migration {
    fn checksum(&self) -> String {
        Sha256::digest(self.sql).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    async fn apply(&self, transaction: &Transaction<'_>) -> Result<(), MigrateError> {
        transaction.batch_execute(self.sql).await.map_err(|source| {
            let refused = source.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE);
            match source.as_db_error() {
                Some(error) if refused && error.message().contains("extension") => MigrateError::Vector(source),
                _ => MigrateError::Failed { name: self.name, source },
            }
        })?;
        transaction.batch_execute("set local role rowgate_owner").await?;
        transaction
            .execute("insert into rowgate.migrations (name, checksum) values ($1, $2)", &[&self.name, &self.checksum()])
            .await?;
        transaction.batch_execute("reset role").await?;
        Ok(())
    }
}

/// Names and checksums of the migrations that have run.
async fn past(transaction: &Transaction<'_>) -> Result<Vec<(String, String)>, MigrateError> {
    let begun: bool = transaction
        .query_one(
            "select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
                             where n.nspname = 'rowgate' and c.relname = 'migrations')",
            &[],
        )
        .await?
        .try_get(0)?;
    if !begun {
        return Ok(Vec::new());
    }
    transaction.batch_execute("set local role rowgate_owner").await?;
    let rows = transaction.query("select name, checksum from rowgate.migrations", &[]).await?;
    transaction.batch_execute("reset role").await?;
    Ok(rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, tokio_postgres::Error>>()?)
}

/// Makes `rowgate.claim_keys` hold these keys and no other.
async fn accept_keys(transaction: &Transaction<'_>, keys: &SigningKeys) -> Result<(), MigrateError> {
    transaction.batch_execute("set local role rowgate_owner").await?;
    let ids: Vec<&str> = keys.iter().map(|key| key.id().as_str()).collect();
    transaction.execute("delete from rowgate.claim_keys where key_id <> all ($1)", &[&ids]).await?;
    for key in keys.iter() {
        let (inner, outer) = key.pads();
        transaction
            .execute(
                "insert into rowgate.claim_keys (key_id, inner_pad, outer_pad) values ($1, $2, $3)
                 on conflict (key_id) do update set inner_pad = excluded.inner_pad, outer_pad = excluded.outer_pad
                  where (claim_keys.inner_pad, claim_keys.outer_pad)
                        is distinct from (excluded.inner_pad, excluded.outer_pad)",
                &[&key.id().as_str(), &inner, &outer],
            )
            .await?;
    }
    transaction.batch_execute("reset role").await?;
    Ok(())
}
