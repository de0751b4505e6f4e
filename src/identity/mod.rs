//! Who is asking ([`Caller`]), how that was proved ([`Verifier`]), and how the database is told so that SQL can not
//! forge it ([`Claim`]). Touches no database, and no network but for Entra's signing keys.

mod caller;
mod claim;
mod easy_auth;
mod entra;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod issued;
mod signing_key;
mod verify;

pub use caller::Caller;
pub use claim::Claim;
pub use easy_auth::PlatformRefusal;
pub use entra::{EntraRefusal, EntraSettings, EntraSettingsError, EntraVerifier};
pub use issued::{IssueError, IssuedToken, TokenRefusal};
pub use signing_key::{KeySource, KeysUnavailable, SigningKey, SigningKeyError, SigningKeys};
pub use verify::{Challenge, DEVELOPMENT_HEADER, Refusal, SignIn, Verifier};
