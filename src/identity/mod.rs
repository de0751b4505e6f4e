//! Who is asking ([`Caller`]), how that was proved ([`Verifier`]), and how the database is told so that SQL can not
//! forge it ([`ClaimSigner`]). Touches no network and no database.

mod caller;
mod claim;
mod verify;

pub use caller::Caller;
pub use claim::{Claim, ClaimKey, ClaimKeyError, ClaimSigner};
pub use verify::{DEVELOPMENT_HEADER, Refusal, Verifier};
