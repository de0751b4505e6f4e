//! Proving to Azure's services who this program is, with the managed identity of the machine it runs on: no secret is
//! stored anywhere. Asked for when it is first needed.

use std::sync::{Arc, PoisonError, RwLock};

use azure_core::credentials::TokenCredential;
use azure_identity::{ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId};

/// The scope of Azure OpenAI's tokens.
pub const COGNITIVE_SERVICES: &str = "https://cognitiveservices.azure.com/.default";

/// The managed identity. Keeps its tokens until shortly before they end.
pub struct ManagedIdentity {
    client_id: Option<String>,
    credential: RwLock<Option<Arc<dyn TokenCredential>>>,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
#[error("the managed identity gives no token")]
pub struct SecretsError(#[from] azure_core::Error);

impl ManagedIdentity {
    /// The user-assigned identity of this client id, or else the system-assigned one.
    pub fn new(client_id: Option<String>) -> Self {
        Self { client_id, credential: RwLock::new(None) }
    }

    /// A token for a scope. `fresh`: the last one was refused, so what was kept is forgotten.
    pub async fn token(&self, scope: &str, fresh: bool) -> Result<String, SecretsError> {
        let kept = self.credential.read().unwrap_or_else(PoisonError::into_inner).clone();
        let credential = match kept.filter(|_| !fresh) {
            Some(credential) => credential,
            None => self.renew()?,
        };
        let token = credential.get_token(&[scope], None).await?;
        Ok(token.token.secret().to_owned())
    }

    /// A credential that has kept nothing yet.
    fn renew(&self) -> Result<Arc<dyn TokenCredential>, SecretsError> {
        let user_assigned_id = self.client_id.clone().map(UserAssignedId::ClientId);
        let options = ManagedIdentityCredentialOptions { user_assigned_id, ..Default::default() };
        let credential: Arc<dyn TokenCredential> = ManagedIdentityCredential::new(Some(options))?;
        *self.credential.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&credential));
        Ok(credential)
    }
}
