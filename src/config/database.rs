//! Where the data is, and how it is connected to.

use std::path::PathBuf;
use std::time::Duration;

use super::reader::Reader;

/// Where the data is.
#[derive(Clone)]
pub struct DatabaseSettings {
    /// As the login role of the request path.
    pub app: Option<tokio_postgres::Config>,
    /// As an administrator, for migrating and seeding.
    pub admin: Option<tokio_postgres::Config>,
    /// The password to give the login role.
    pub app_password: Option<String>,
    /// The managed identity that may log in as the login role, by its object id.
    pub app_object_id: Option<String>,
    /// Where the login role's password comes from.
    pub login: LoginChoice,
    /// Whether and how connections are protected.
    pub tls: TlsSettings,
    /// Connections at most.
    pub pool_size: usize,
    /// How long a call waits for a connection.
    pub pool_wait: Duration,
    /// Calls at once, those that wait for a connection too.
    pub calls: usize,
    /// The same of one caller.
    pub calls_per_caller: usize,
    /// How long making a connection may take.
    pub connect: Duration,
    /// How long a connection is used.
    pub lifetime: Duration,
}

/// Where the login role's password comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginChoice {
    /// It stands in the database URL, or none is needed.
    Url,
    /// An access token of the managed identity.
    Entra,
    /// A secret of the vault, by its name.
    KeyVault(String),
}

/// Whether and how connections to PostgreSQL are protected.
#[derive(Clone, Debug, Default)]
pub struct TlsSettings {
    /// Unset, all but those to this machine are.
    pub wanted: Option<bool>,
    /// A file of root certificates, PEM, instead of the system's.
    pub roots: Option<PathBuf>,
}

impl DatabaseSettings {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let secret =
            reader.text("ROWGATE_DATABASE_PASSWORD_SECRET").unwrap_or_else(|| "rowgate-database-password".to_owned());
        Self {
            app: reader.database("ROWGATE_DATABASE_URL"),
            admin: reader.database("ROWGATE_ADMIN_DATABASE_URL"),
            app_password: reader.text("ROWGATE_APP_PASSWORD"),
            app_object_id: reader.parsed("ROWGATE_APP_OBJECT_ID", None, |text| {
                let fits = text.len() == 36 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
                if fits { Ok(Some(text.to_owned())) } else { Err("not an object id, a UUID".to_owned()) }
            }),
            login: reader.parsed("ROWGATE_DATABASE_LOGIN", LoginChoice::Url, |text| match text {
                "url" => Ok(LoginChoice::Url),
                "entra" => Ok(LoginChoice::Entra),
                "key-vault" => Ok(LoginChoice::KeyVault(secret)),
                _ => Err("not a source of the password; there are `url`, `entra` and `key-vault`".to_owned()),
            }),
            tls: TlsSettings {
                wanted: reader.parsed("ROWGATE_DATABASE_TLS", None, |text| match text {
                    "on" => Ok(Some(true)),
                    "off" => Ok(Some(false)),
                    _ => Err("neither `on` nor `off`".to_owned()),
                }),
                roots: reader.text("ROWGATE_DATABASE_ROOT_CERTIFICATES").map(PathBuf::from),
            },
            pool_size: reader.number("ROWGATE_POOL_SIZE", 4, 1..=1_000),
            pool_wait: reader.seconds("ROWGATE_POOL_WAIT_SECONDS", 5, 1..=60),
            calls: reader.number("ROWGATE_CALLS", 256, 1..=10_000),
            calls_per_caller: reader.number("ROWGATE_CALLS_PER_CALLER", 32, 1..=10_000),
            connect: reader.seconds("ROWGATE_CONNECT_SECONDS", 10, 1..=60),
            lifetime: reader.seconds("ROWGATE_CONNECTION_SECONDS", 1_800, 10..=86_400),
        }
    }
}

impl std::fmt::Debug for DatabaseSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatabaseSettings").field("pool_size", &self.pool_size).finish_non_exhaustive()
    }
}
