//! What a server asks of others, from settings: keys, passwords, tokens, vectors, and who signs in. Each is made without
//! asking anything yet.

use std::error::Error as StdError;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::AppError;
use crate::config::{EmbedderChoice, EntraChoice, KeySettings, LoginChoice, Settings, SignInChoice};
use crate::db::{Password, PasswordSource};
use crate::domain::Profile;
use crate::embedding::{AzureOpenAi, AzureOpenAiSettings, Credential, Embedder, EmbeddingModel, TokenSource};
use crate::identity::{
    EntraSettings, EntraVerifier, KeySource, KeysUnavailable, SignIn, SigningKeyError, SigningKeys, Verifier,
};
use crate::secrets::{COGNITIVE_SERVICES, IdentityError, KeyVault, ManagedIdentity, POSTGRESQL, SecretValue};
use crate::telemetry::{self, AZURE_MONITOR};

/// How long one request to an embedding service, and one call with all its attempts, may take.
const EMBEDDING_ATTEMPT: Duration = Duration::from_secs(10);
const EMBEDDING_CALL: Duration = Duration::from_secs(60);

/// After which time a secret that makes no sense is worth another look.
const MENDED_AFTER: Duration = Duration::from_secs(10);

type Failure = Box<dyn StdError + Send + Sync>;

/// Azure as the settings name it: who this program is there, and its vault.
#[derive(Clone)]
pub struct Azure {
    identity: Arc<ManagedIdentity>,
    vault: Option<Arc<KeyVault>>,
}

impl Azure {
    /// Asks nothing yet.
    pub fn new(settings: &Settings) -> Self {
        let identity = Arc::new(ManagedIdentity::new(settings.azure.client_id.clone()));
        let vault = settings.azure.key_vault.as_deref();
        let vault = vault.map(|url| KeyVault::new(url, Arc::clone(&identity)));
        Self::of(identity, vault)
    }

    /// The same from an identity and a vault.
    pub fn of(identity: Arc<ManagedIdentity>, vault: Option<KeyVault>) -> Self {
        Self { identity, vault: vault.map(Arc::new) }
    }

    /// What proves to Application Insights who sends.
    pub fn monitor_token(&self) -> telemetry::TokenSource {
        let identity = Arc::clone(&self.identity);
        Arc::new(move || {
            let identity = Arc::clone(&identity);
            async move { Ok(identity.token(AZURE_MONITOR, false).await?.text) }.boxed()
        })
    }

    fn secret(&self, name: &str, for_want_of: &'static str) -> Result<VaultSecret, AppError> {
        let vault = self.vault.clone().ok_or(AppError::Missing(
            for_want_of,
            "without it ROWGATE_KEY_VAULT names the vault of the secret, https://<name>.vault.azure.net",
        ))?;
        Ok(VaultSecret { vault, name: name.to_owned() })
    }

    /// The keys that sign claims.
    pub(super) fn claim_keys(&self, settings: &Settings) -> Result<Arc<dyn KeySource>, AppError> {
        if settings.claim_keys.given.is_none() && settings.azure.key_vault.is_none() {
            return Err(AppError::Missing(
                "ROWGATE_CLAIM_KEYS",
                "it signs claims; make one with `echo k1:$(openssl rand -base64 32)` and give it to `rowgate migrate` \
                 too, or name the vault that has it by ROWGATE_KEY_VAULT",
            ));
        }
        self.keys(&settings.claim_keys, "ROWGATE_CLAIM_KEYS")
    }

    /// The ids of the keys that sign claims, the newest first; fetched if they have to be.
    pub async fn check_keys(&self, settings: &Settings) -> Result<Vec<String>, AzureError> {
        let source = self.claim_keys(settings).map_err(|error| AzureError::Settings(Box::new(error)))?;
        let keys = source.keys().await?;
        Ok(keys.iter().map(|key| key.id().as_str().to_owned()).collect())
    }

    /// The services that the managed identity has tokens for, of those that are asked as it; `None` if none is.
    pub async fn check_identity(&self, settings: &Settings) -> Option<Result<Vec<&'static str>, IdentityError>> {
        let embedding = &settings.embedding;
        let openai = embedding.embedder == Some(EmbedderChoice::AzureOpenAi)
            && embedding.key.is_none()
            && embedding.key_secret.is_none();
        let asked = [
            (settings.database.login == LoginChoice::Entra, POSTGRESQL, "PostgreSQL"),
            (openai, COGNITIVE_SERVICES, "Azure OpenAI"),
        ];
        let mut services = Vec::new();
        for (_, scope, name) in asked.into_iter().filter(|(asked, ..)| *asked) {
            match self.identity.token(scope, false).await {
                Ok(_) => services.push(name),
                Err(error) => return Some(Err(error)),
            }
        }
        (!services.is_empty()).then_some(Ok(services))
    }

    /// Signing keys that are given, or in the vault.
    pub(super) fn keys(&self, keys: &KeySettings, variable: &'static str) -> Result<Arc<dyn KeySource>, AppError> {
        match &keys.given {
            Some(given) => Ok(Arc::new(Arc::new(given.clone()))),
            None => Ok(Arc::new(VaultKeys { secret: self.secret(&keys.secret, variable)?, read: RwLock::default() })),
        }
    }

    /// The login role's password, where the database URL has none.
    pub(super) fn password(&self, login: &LoginChoice) -> Result<Option<Arc<dyn PasswordSource>>, AppError> {
        Ok(match login {
            LoginChoice::Url => None,
            LoginChoice::Entra => Some(Arc::new(EntraPassword(Arc::clone(&self.identity)))),
            LoginChoice::KeyVault(name) => Some(Arc::new(self.secret(name, "ROWGATE_KEY_VAULT")?)),
        })
    }
}

/// Why something of Azure's can not be had.
#[derive(Debug, thiserror::Error)]
pub enum AzureError {
    /// The settings do not say where it is.
    #[error(transparent)]
    Settings(Box<AppError>),
    /// The vault.
    #[error(transparent)]
    Keys(#[from] KeysUnavailable),
}

/// Who signs in, and how.
pub(super) fn verifier(settings: &Settings, azure: &Azure) -> Result<Verifier, AppError> {
    let identity = &settings.identity;
    let sign_in = match identity.sign_in {
        Some(SignInChoice::TrustedHeader) => Some(SignIn::TrustedHeader),
        Some(SignInChoice::EasyAuth) => Some(SignIn::EasyAuth { enabled: identity.easy_auth_on }),
        Some(SignInChoice::Entra) => {
            let EntraChoice { authority, tenant, audiences, scopes, app_roles } = identity.entra.clone();
            let missing = AppError::Missing("ROWGATE_ENTRA_TENANT", "it is the tenant whose people may sign in");
            let tenant = tenant.ok_or(missing)?;
            Some(SignIn::Entra(EntraVerifier::new(EntraSettings { authority, tenant, audiences, scopes, app_roles })?))
        }
        None if identity.issued_tokens => None,
        None => return Err(AppError::NoIdentity),
    };
    let issued = match identity.issued_tokens {
        true => Some(azure.keys(&settings.token_keys, "ROWGATE_TOKEN_KEYS")?),
        false => None,
    };
    Ok(Verifier::new(sign_in, issued))
}

/// The embedder that the settings choose. Loads and connects to nothing yet.
pub fn embedder(settings: &Settings, profile: &Profile, azure: &Azure) -> Result<Option<Arc<dyn Embedder>>, AppError> {
    let chosen = &settings.embedding;
    match chosen.embedder {
        None | Some(EmbedderChoice::None) => Ok(None),
        #[cfg(feature = "local-embedder")]
        Some(EmbedderChoice::Local) => {
            let file = chosen.model_file.clone().ok_or(AppError::Missing(
                "ROWGATE_EMBEDDING_MODEL_FILE",
                "it names the ONNX file of the local model",
            ))?;
            Ok(Some(Arc::new(crate::embedding::LocalModel::new(file))))
        }
        #[cfg(not(feature = "local-embedder"))]
        Some(EmbedderChoice::Local) => Err(AppError::NoLocalEmbedder),
        Some(EmbedderChoice::AzureOpenAi) => {
            let endpoint = chosen.endpoint.clone().ok_or(AppError::Missing(
                "ROWGATE_OPENAI_ENDPOINT",
                "it is the address of the Azure OpenAI resource, https://<resource>.openai.azure.com",
            ))?;
            let known =
                profile.search.iter().flat_map(|search| &search.models).find(|model| model.name == chosen.model);
            let known = known.ok_or_else(|| AppError::UnknownModel(chosen.model.clone()))?;
            let service = AzureOpenAiSettings {
                endpoint,
                deployment: chosen.deployment.clone().unwrap_or_else(|| chosen.model.clone()),
                model: EmbeddingModel { name: known.name.clone(), dimensions: known.dimensions },
                attempt_timeout: EMBEDDING_ATTEMPT,
                deadline: EMBEDDING_CALL,
                attempts: 5,
            };
            let credential = match (&chosen.key, &chosen.key_secret) {
                (Some(key), _) => Credential::Key(key.expose().to_owned()),
                (None, Some(name)) => Credential::KeyFrom(Arc::new(azure.secret(name, "ROWGATE_OPENAI_KEY")?)),
                (None, None) => Credential::Token(Arc::new(OpenAiToken(Arc::clone(&azure.identity)))),
            };
            Ok(Some(Arc::new(AzureOpenAi::new(service, credential)?)))
        }
    }
}

/// A secret of the vault, as a password or a key.
struct VaultSecret {
    vault: Arc<KeyVault>,
    name: String,
}

impl VaultSecret {
    async fn text(&self, fresh: bool) -> Result<String, Failure> {
        if fresh {
            self.vault.refused(&self.name);
        }
        Ok(self.vault.secret(&self.name).await?.expose().to_owned())
    }
}

impl PasswordSource for VaultSecret {
    fn password(&self, fresh: bool) -> BoxFuture<'_, Result<Password, Failure>> {
        async move { Ok(Password { text: self.text(fresh).await?, until: None }) }.boxed()
    }
}

impl TokenSource for VaultSecret {
    fn token(&self, fresh: bool) -> BoxFuture<'_, Result<String, Failure>> {
        self.text(fresh).boxed()
    }
}

/// Signing keys in the vault, read again only when the secret's text has changed.
struct VaultKeys {
    secret: VaultSecret,
    read: RwLock<Option<(Arc<SecretValue>, Arc<SigningKeys>)>>,
}

impl VaultKeys {
    fn parse(&self, text: Arc<SecretValue>) -> Result<Arc<SigningKeys>, SigningKeyError> {
        if let Some((known, keys)) = &*self.read.read().unwrap_or_else(PoisonError::into_inner)
            && Arc::ptr_eq(known, &text)
        {
            return Ok(Arc::clone(keys));
        }
        let keys = Arc::new(SigningKeys::parse(text.expose())?);
        *self.read.write().unwrap_or_else(PoisonError::into_inner) = Some((text, Arc::clone(&keys)));
        Ok(keys)
    }
}

impl KeySource for VaultKeys {
    fn keys(&self) -> BoxFuture<'_, Result<Arc<SigningKeys>, KeysUnavailable>> {
        async move {
            let VaultSecret { vault, name } = &self.secret;
            let text = vault.secret(name).await.map_err(|unavailable| KeysUnavailable {
                retry_after: unavailable.retry_after,
                source: Arc::new(unavailable),
            })?;
            self.parse(text).map_err(|error| {
                // The vault may hold better ones by the time it is asked again.
                vault.refused(name);
                KeysUnavailable { retry_after: MENDED_AFTER, source: Arc::new(error) }
            })
        }
        .boxed()
    }

    fn refused(&self) {
        self.secret.vault.refused(&self.secret.name);
    }
}

/// The managed identity's tokens, as passwords.
struct EntraPassword(Arc<ManagedIdentity>);

impl PasswordSource for EntraPassword {
    fn password(&self, fresh: bool) -> BoxFuture<'_, Result<Password, Failure>> {
        async move {
            let token = self.0.token(POSTGRESQL, fresh).await?;
            Ok(Password { text: token.text, until: Some(token.expires) })
        }
        .boxed()
    }
}

/// The managed identity's tokens for Azure OpenAI.
struct OpenAiToken(Arc<ManagedIdentity>);

impl TokenSource for OpenAiToken {
    fn token(&self, fresh: bool) -> BoxFuture<'_, Result<String, Failure>> {
        async move { Ok(self.0.token(COGNITIVE_SERVICES, fresh).await?.text) }.boxed()
    }
}
