//! The caller of one request. Only [`super::Verifier`] makes one, so that holding a `Caller` is the proof of identity.

use crate::domain::Principal;

/// Somebody whose identity was proved for this request. What it may see, the database alone decides.
#[derive(Clone, Debug)]
pub struct Caller {
    principal: Principal,
}

impl Caller {
    pub(super) fn proved(principal: Principal) -> Self {
        Self { principal }
    }

    /// Who it is.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }
}
