//! Proving to Azure's services who this program is, with the managed identity of the machine it runs on. Asked for when
//! a token is first needed.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use azure_core::credentials::TokenCredential;
use azure_identity::{ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId};

use crate::telemetry::start::{self, Phase};
use crate::telemetry::{Kind, Span, measure};

/// A token that took longer was asked for, rather than kept.
const ASKED: Duration = Duration::from_micros(200);

/// The managed identity. Keeps its tokens until five minutes before they end.
pub struct ManagedIdentity {
    make: Box<dyn Fn() -> azure_core::Result<Arc<dyn TokenCredential>> + Send + Sync>,
    credential: RwLock<Option<Arc<dyn TokenCredential>>>,
}

/// An access token for one service.
pub struct AccessToken {
    /// Its text, a secret.
    pub text: String,
    /// When it ends.
    pub expires: SystemTime,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
#[error("the managed identity gives no token")]
pub struct IdentityError(#[from] azure_core::Error);

impl ManagedIdentity {
    /// The user-assigned identity of this client id, or else the system-assigned one.
    pub fn new(client_id: Option<String>) -> Self {
        Self::by(move || {
            let user_assigned_id = client_id.clone().map(UserAssignedId::ClientId);
            let options = ManagedIdentityCredentialOptions { user_assigned_id, ..Default::default() };
            Ok(ManagedIdentityCredential::new(Some(options))?)
        })
    }

    /// An identity by another of Azure's credentials. `make` is called before the first token, and again for one that
    /// has kept nothing.
    pub fn by(make: impl Fn() -> azure_core::Result<Arc<dyn TokenCredential>> + Send + Sync + 'static) -> Self {
        Self { make: Box::new(make), credential: RwLock::new(None) }
    }

    /// A token for a scope. `fresh`: the last one was refused, so what was kept is forgotten.
    pub async fn token(&self, scope: &str, fresh: bool) -> Result<AccessToken, IdentityError> {
        let credential = if fresh { self.renew()? } else { self.credential()? };
        let began = Instant::now();
        let token = credential.get_token(&[scope], None).await;
        if began.elapsed() >= ASKED {
            Span::ended(Kind::Client, "get token", began.elapsed());
            start::spent(Phase::Token, began.elapsed());
            measure::secret("token", token.is_ok(), began.elapsed());
        }
        let token = token?;
        Ok(AccessToken { text: token.token.secret().to_owned(), expires: token.expires_on.into() })
    }

    /// The credential that the clients of Azure's own libraries take.
    pub(super) fn credential(&self) -> Result<Arc<dyn TokenCredential>, IdentityError> {
        let kept = self.credential.read().unwrap_or_else(PoisonError::into_inner).clone();
        kept.map_or_else(|| self.renew(), Ok)
    }

    /// A credential that has kept nothing yet.
    fn renew(&self) -> Result<Arc<dyn TokenCredential>, IdentityError> {
        let credential = (self.make)()?;
        *self.credential.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&credential));
        Ok(credential)
    }
}
