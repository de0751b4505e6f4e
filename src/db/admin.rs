//! A connection as an administrator, for commands that a person runs: migrate, seed, dev. Never part of a call.
#![allow(clippy::disallowed_methods, reason = "an administrator's own connection, not one of the request path's")]

use std::ops::{Deref, DerefMut};

use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, NoTls};

use super::tls::{Tls, TlsError};

/// A connection as an administrator, closed when dropped.
pub struct Admin {
    client: Client,
    connection: JoinHandle<()>,
}

/// What an administrator's command could not do.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// No connection.
    #[error("the database can not be reached as its administrator")]
    Connect(#[source] tokio_postgres::Error),
    /// No protection for it.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A statement failed.
    #[error("the database refused a statement of the administrator's")]
    Statement(#[from] tokio_postgres::Error),
}

impl Admin {
    /// Connects, without TLS if the server is on this machine and with it otherwise.
    pub async fn connect(config: &Config) -> Result<Self, AdminError> {
        Self::connect_with(config, &Tls::default()).await
    }

    /// Connects.
    pub async fn connect_with(config: &Config, tls: &Tls) -> Result<Self, AdminError> {
        let mut config = config.clone();
        let (client, connection) = match tls.connector(&config)? {
            None => {
                let connected = config.ssl_mode(SslMode::Disable).connect(NoTls).await;
                let (client, connection) = connected.map_err(AdminError::Connect)?;
                (client, tokio::spawn(told(connection)))
            }
            Some(tls) => {
                let connected = config.ssl_mode(SslMode::Require).connect(tls).await;
                let (client, connection) = connected.map_err(AdminError::Connect)?;
                (client, tokio::spawn(told(connection)))
            }
        };
        Ok(Self { client, connection })
    }

    /// Makes a database of this name unless there is one.
    pub async fn create_database(&self, name: &str) -> Result<(), AdminError> {
        let there = self.query_opt("select from pg_database where datname = $1", &[&name]).await?;
        if there.is_none() {
            let row = self.query_one("select format('create database %I', $1::text)", &[&name]).await?;
            self.batch_execute(row.try_get(0)?).await?;
        }
        Ok(())
    }

    /// Makes an extension that only a superuser may make.
    pub async fn create_vector_extension(&self) -> Result<(), AdminError> {
        Ok(self.batch_execute("create extension if not exists vector").await?)
    }

    /// Makes, or sets right, a login role that may make roles and databases and owns this database, as the administrator
    /// of a cloud's server does: no superuser, no BYPASSRLS. For a superuser.
    pub async fn make_administrator(&self, name: &str, password: &str, database: &str) -> Result<(), AdminError> {
        let verifier = postgres_protocol::password::scram_sha_256(password.as_bytes());
        let row = self
            .query_one(
                "select case when exists (select from pg_roles where rolname = $1) then 'alter' else 'create' end
                        || format(' role %I login createrole createdb nosuperuser nobypassrls password %L', $1, $2::text),
                        format('alter database %I owner to %I', $3::text, $1)",
                &[&name, &verifier, &database],
            )
            .await?;
        self.batch_execute(row.try_get(0)?).await?;
        self.batch_execute(row.try_get(1)?).await?;
        Ok(())
    }

    /// Gives the login role of the request path a password. The server and its log see its SCRAM verifier only.
    pub async fn set_app_password(&self, password: &str) -> Result<(), AdminError> {
        let verifier = postgres_protocol::password::scram_sha_256(password.as_bytes());
        let row = self.query_one("select format('alter role rowgate_app password %L', $1::text)", &[&verifier]).await?;
        self.batch_execute(row.try_get(0)?).await?;
        Ok(())
    }
    /// Lets a managed identity log in as the login role, on Azure Database for PostgreSQL: its object id becomes what
    /// the role's access token has to name. For an administrator of Entra's.
    /// <https://learn.microsoft.com/azure/postgresql/security/security-manage-entra-users>
    pub async fn let_app_identity_log_in(&self, object_id: &str) -> Result<(), AdminError> {
        let row = self
            .query_one(
                "select format('security label for pgaadauth on role rowgate_app is %L',
                               'aadauth,oid=' || $1::text || ',type=service')",
                &[&object_id],
            )
            .await?;
        self.batch_execute(row.try_get(0)?).await?;
        Ok(())
    }
}

async fn told(connection: impl Future<Output = Result<(), tokio_postgres::Error>>) {
    if let Err(error) = connection.await {
        tracing::debug!(error = &error as &dyn std::error::Error, "the administrator's connection ended");
    }
}

impl Deref for Admin {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Admin {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
