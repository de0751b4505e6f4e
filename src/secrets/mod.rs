//! Azure's two ways to need no stored secret: tokens of the managed identity, and Key Vault for what has to be a secret
//! all the same. Asks nothing before it is needed, and never shows or logs what it was given.

mod key_vault;
mod managed_identity;

pub use key_vault::{KeyVault, SecretError, SecretUnavailable, SecretValue, VaultAnswer};
pub use managed_identity::{AccessToken, IdentityError, ManagedIdentity};

/// The scope of Azure OpenAI's tokens.
pub const COGNITIVE_SERVICES: &str = "https://cognitiveservices.azure.com/.default";

/// The scope of the tokens that Azure Database for PostgreSQL takes as passwords.
pub const POSTGRESQL: &str = "https://ossrdbms-aad.database.windows.net/.default";
