//! The only reader of the environment. One struct a concern; every variable is in [`VARIABLES`], which the README's
//! table is compared with; all problems are reported at once. Decides nothing beyond what a setting says.
#![allow(clippy::disallowed_methods, reason = "this is the reader of the environment")]

mod database;
mod identity;
mod reader;
mod telemetry;
mod variables;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use database::{DatabaseSettings, LoginChoice, TlsSettings};
pub use identity::{EntraChoice, IdentitySettings, KeySettings, SignInChoice};
pub use telemetry::{ApplicationInsightsSettings, OtlpSettings, TelemetrySettings};
pub use variables::VARIABLES;

use self::reader::{Reader, origins};
use crate::domain::{ByteLimit, RowLimit};

/// Everything that the program is told from outside.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which of them were given, by name alone.
    pub given: GivenSettings,
    /// How it listens and whom it answers.
    pub http: HttpSettings,
    /// Where the data is.
    pub database: DatabaseSettings,
    /// How much a call may take.
    pub limits: LimitSettings,
    /// How callers are proved.
    pub identity: IdentitySettings,
    /// Keys that sign claims.
    pub claim_keys: KeySettings,
    /// Keys that sign issued tokens.
    pub token_keys: KeySettings,
    /// Where secrets are, and as whom this program asks for them.
    pub azure: AzureSettings,
    /// What turns words into vectors.
    pub embedding: EmbeddingSettings,
    /// Another profile than the sample's.
    pub profile: Option<PathBuf>,
    /// Where things that can be made again are kept.
    pub cache: CacheSettings,
    /// What is logged and measured, and who is told.
    pub telemetry: TelemetrySettings,
}

/// Which variables of [`VARIABLES`] the environment has. Names alone: a value may be a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GivenSettings {
    /// How many.
    pub count: usize,
    /// Those that say something else than what holds without them.
    pub changed: Vec<&'static str>,
}

/// Where things that can be made again are kept.
#[derive(Clone, Debug)]
pub struct CacheSettings {
    /// Said for us.
    pub folder: Option<PathBuf>,
    /// The user's, for all programs.
    pub users: Option<PathBuf>,
}

/// How it listens and whom it answers.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Address to listen on.
    pub bind: IpAddr,
    /// Port to listen on, 0 for any.
    pub port: u16,
    /// Values of `Host` to answer besides loopback.
    pub allowed_hosts: Vec<String>,
    /// Browser origins to answer.
    pub allowed_origins: Vec<String>,
    /// Largest request body.
    pub body_bytes: usize,
}

/// Where secrets are, and as whom this program asks for them.
#[derive(Clone, Debug)]
pub struct AzureSettings {
    /// The vault's address.
    pub key_vault: Option<String>,
    /// The managed identity's client id, unless it is the system-assigned one.
    pub client_id: Option<String>,
}

/// What turns words into vectors.
#[derive(Clone, Debug)]
pub struct EmbeddingSettings {
    /// Which embedder; unset leaves it to the command.
    pub embedder: Option<EmbedderChoice>,
    /// The local model's file.
    pub model_file: Option<PathBuf>,
    /// Azure OpenAI: the model, as the profile knows it.
    pub model: String,
    /// Azure OpenAI: the resource's address.
    pub endpoint: Option<String>,
    /// Azure OpenAI: the deployment; unset, it has the model's name.
    pub deployment: Option<String>,
    /// Azure OpenAI: the resource's key.
    pub key: Option<Secret>,
    /// Azure OpenAI: the name of the secret that holds the resource's key.
    pub key_secret: Option<String>,
}

/// A text that is never shown.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// The text, to be handed to whom it is for.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Which embedder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmbedderChoice {
    /// There is no search by meaning.
    None,
    /// A model in this process.
    Local,
    /// A deployment on Azure OpenAI.
    AzureOpenAi,
}

/// How much a call may take.
#[derive(Clone, Copy, Debug)]
pub struct LimitSettings {
    /// How long a caller's statement may run.
    pub statement: Duration,
    /// How long a call may take in all.
    pub call: Duration,
    /// Rows in an answer unless the caller asks otherwise.
    pub default_rows: RowLimit,
    /// Bytes of rows in an answer.
    pub result_bytes: ByteLimit,
}

/// All that is wrong with the environment.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(|p| format!("\n  {p}")).collect::<String>())]
pub struct ConfigError(Vec<String>);

impl ConfigError {
    /// Each of them, a variable's name and what is wrong with it. None repeats a secret.
    pub fn problems(&self) -> &[String] {
        &self.0
    }
}

impl Settings {
    /// Reads the process's environment.
    pub fn from_environment() -> Result<Self, ConfigError> {
        Self::read(
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect(),
        )
    }

    /// Reads an environment given as a map. Names that start with `ROWGATE_` and are not known are a problem too.
    pub fn read(environment: BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(environment);
        reader.refuse_unknown();

        let limits = LimitSettings {
            statement: reader.seconds("ROWGATE_STATEMENT_SECONDS", 30, 1..=229),
            call: reader.seconds("ROWGATE_CALL_SECONDS", 60, 1..=229),
            default_rows: reader.parsed("ROWGATE_DEFAULT_ROWS", RowLimit::DEFAULT, |text| {
                text.parse()
                    .map_err(|_| "not a number".to_owned())
                    .and_then(|n| RowLimit::parse(n).map_err(|e| e.to_string()))
            }),
            result_bytes: reader.parsed("ROWGATE_RESULT_BYTES", ByteLimit::DEFAULT, |text| {
                text.parse()
                    .map_err(|_| "not a number".to_owned())
                    .and_then(|n| ByteLimit::parse(n).map_err(|e| e.to_string()))
            }),
        };
        let host =
            |text: &str| Ok(text.split(',').map(str::trim).filter(|h| !h.is_empty()).map(str::to_owned).collect());
        let mut allowed_hosts: Vec<String> = reader.parsed("ROWGATE_ALLOWED_HOSTS", Vec::new(), host);
        allowed_hosts.extend(reader.text("WEBSITE_HOSTNAME"));
        let port_variable = if reader.text("FUNCTIONS_CUSTOMHANDLER_PORT").is_some() {
            "FUNCTIONS_CUSTOMHANDLER_PORT"
        } else {
            "ROWGATE_PORT"
        };

        let settings = Self {
            given: reader.given(),
            http: HttpSettings {
                bind: reader.parsed("ROWGATE_BIND", IpAddr::from([127, 0, 0, 1]), |t| {
                    t.parse().map_err(|_| "not an IP address".to_owned())
                }),
                port: reader
                    .parsed(port_variable, 8000, |t| t.parse().map_err(|_| "not a port (0 to 65535)".to_owned())),
                allowed_hosts,
                allowed_origins: reader.parsed("ROWGATE_ALLOWED_ORIGINS", Vec::new(), origins),
                body_bytes: reader.number("ROWGATE_BODY_BYTES", 1_048_576, 1_024..=16_777_216),
            },
            database: DatabaseSettings::read(&mut reader),
            limits,
            identity: IdentitySettings::read(&mut reader),
            claim_keys: KeySettings::read(
                &mut reader,
                "ROWGATE_CLAIM_KEYS",
                "ROWGATE_CLAIM_KEYS_SECRET",
                "rowgate-claim-keys",
            ),
            token_keys: KeySettings::read(
                &mut reader,
                "ROWGATE_TOKEN_KEYS",
                "ROWGATE_TOKEN_KEYS_SECRET",
                "rowgate-token-keys",
            ),
            azure: AzureSettings {
                key_vault: reader.parsed("ROWGATE_KEY_VAULT", None, |text| {
                    let is_vault = text.starts_with("https://") && !text.contains(char::is_whitespace);
                    let wrong = || "not a vault's address, `https://<name>.vault.azure.net`".to_owned();
                    is_vault.then(|| Some(text.to_owned())).ok_or_else(wrong)
                }),
                client_id: reader.text("ROWGATE_MANAGED_IDENTITY_CLIENT_ID"),
            },
            embedding: EmbeddingSettings {
                embedder: reader.parsed("ROWGATE_EMBEDDER", None, |text| match text {
                    "none" => Ok(Some(EmbedderChoice::None)),
                    "local" => Ok(Some(EmbedderChoice::Local)),
                    "azure-openai" => Ok(Some(EmbedderChoice::AzureOpenAi)),
                    _ => Err("not an embedder; there are `none`, `local` and `azure-openai`".to_owned()),
                }),
                model: reader.text("ROWGATE_EMBEDDING_MODEL").unwrap_or_else(|| "text-embedding-3-small".to_owned()),
                endpoint: reader.text("ROWGATE_OPENAI_ENDPOINT"),
                deployment: reader.text("ROWGATE_OPENAI_DEPLOYMENT"),
                key: reader.text("ROWGATE_OPENAI_KEY").map(Secret),
                key_secret: reader.text("ROWGATE_OPENAI_KEY_SECRET"),
                model_file: reader.text("ROWGATE_EMBEDDING_MODEL_FILE").map(PathBuf::from),
            },
            profile: reader.text("ROWGATE_PROFILE").map(PathBuf::from),
            cache: CacheSettings {
                folder: reader.text("ROWGATE_CACHE_DIR").map(PathBuf::from),
                users: reader
                    .text("XDG_CACHE_HOME")
                    .or(reader.text("LOCALAPPDATA"))
                    .map(PathBuf::from)
                    .or(reader.text("HOME").map(|home| PathBuf::from(home).join(".cache"))),
            },
            telemetry: TelemetrySettings::read(&mut reader),
        };
        let problems = reader.problems();
        if problems.is_empty() { Ok(settings) } else { Err(ConfigError(problems)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, ConfigError> {
        Settings::read(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn nothing_set_is_the_documented_default() {
        let settings = read(&[("PATH", "/bin")]).unwrap();
        assert_eq!((settings.http.port, settings.database.pool_size), (8000, 4));
        assert_eq!((settings.identity.sign_in, settings.identity.issued_tokens), (None, false));
        assert!(settings.database.app.is_none() && settings.claim_keys.given.is_none());
        assert_eq!(settings.claim_keys.secret, "rowgate-claim-keys");
    }

    #[test]
    fn given_settings_are_known_by_name() {
        let settings = read(&[
            ("ROWGATE_POOL_SIZE", "4"),
            ("ROWGATE_PORT", "9000"),
            ("ROWGATE_CLAIM_KEYS_SECRET", " "),
            ("ROWGATE_OPENAI_KEY", "hunter2"),
            ("PATH", "/bin"),
        ])
        .unwrap();
        let changed = vec!["ROWGATE_PORT", "ROWGATE_OPENAI_KEY"];
        assert_eq!(settings.given, GivenSettings { count: 3, changed });
        assert_eq!(read(&[]).unwrap().given, GivenSettings::default());
    }

    #[test]
    fn the_functions_host_comes_first() {
        let settings =
            read(&[("ROWGATE_PORT", "1"), ("FUNCTIONS_CUSTOMHANDLER_PORT", "2"), ("WEBSITE_HOSTNAME", "a.example")])
                .unwrap();
        assert_eq!(settings.http.port, 2);
        assert_eq!(settings.http.allowed_hosts, ["a.example"]);
        assert_eq!(settings.identity.public_url.as_deref(), Some("https://a.example"));
    }

    #[test]
    fn callers_sign_in_one_way_and_never_by_a_header_on_azure() {
        let of = |text: &str, more: &[(&str, &str)]| {
            let settings = read(&[&[("ROWGATE_IDENTITY", text)], more].concat()).map_err(|e| e.to_string())?;
            Ok::<_, String>((settings.identity.sign_in, settings.identity.issued_tokens))
        };
        assert_eq!(of("issued-token", &[]), Ok((None, true)));
        assert_eq!(of("entra, issued-token", &[]), Ok((Some(SignInChoice::Entra), true)));
        assert_eq!(of("easy-auth", &[]), Ok((Some(SignInChoice::EasyAuth), false)));
        for wrong in ["", "easy-auth,entra", "trusted-header,easy-auth", "anything"].into_iter().skip(1) {
            assert!(of(wrong, &[]).is_err(), "{wrong}");
        }
        let on_azure = [("WEBSITE_HOSTNAME", "a.azurewebsites.net")];
        assert!(of("trusted-header", &on_azure).unwrap_err().contains("on Azure anybody could ask as anybody"));
        assert!(of("easy-auth", &on_azure).is_ok());
    }

    #[test]
    fn all_problems_are_told_at_once_and_none_repeats_a_secret() {
        let problems = read(&[
            ("ROWGATE_PORT", "70000"),
            ("ROWGATE_DATABASE_URL", "postgres://u:hunter2@[::bad"),
            ("ROWGATE_CLAIM_KEYS", "k:hunter2"),
            ("ROWGATE_POLL_SIZE", "4"),
            ("ROWGATE_IDENTITY", "anybody"),
            ("ROWGATE_CALL_SECONDS", "230"),
        ])
        .unwrap_err()
        .to_string();
        assert_eq!(problems.lines().filter(|l| l.starts_with("  ROWGATE_")).count(), 6, "{problems}");
        assert!(problems.contains("did you mean ROWGATE_POOL_SIZE?"), "{problems}");
        assert!(!problems.contains("hunter2"), "{problems}");
    }
}
