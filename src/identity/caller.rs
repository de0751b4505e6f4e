//! The caller of one request. Only [`super::Verifier`] makes one, so that holding a `Caller` is the proof of identity.

use crate::domain::{Principal, TokenId};

/// Somebody whose identity was proved for this request. What it may see, the database alone decides.
#[derive(Clone, Debug)]
pub struct Caller {
    principal: Principal,
    also: Vec<Principal>,
    token: Option<TokenId>,
}

impl Caller {
    pub(super) fn proved(principal: Principal) -> Self {
        Self { principal, also: Vec::new(), token: None }
    }

    /// The same caller, who is also these: its groups and roles.
    pub(super) fn also(self, also: Vec<Principal>) -> Self {
        Self { also, ..self }
    }

    /// The same caller, proved by a token that can be revoked.
    pub(super) fn by_token(self, token: TokenId) -> Self {
        Self { token: Some(token), ..self }
    }

    /// Who it is.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Who it is, and then its groups and roles: it sees what any of them may see.
    pub fn principals(&self) -> impl Iterator<Item = &Principal> {
        [&self.principal].into_iter().chain(&self.also)
    }

    /// The issued token that proved it, if one did.
    pub fn token(&self) -> Option<&TokenId> {
        self.token.as_ref()
    }
}
