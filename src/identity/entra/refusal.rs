//! What is wrong with a token, or with the settings, in sentences for the person who can do something about it. Nothing
//! of a token's is ever in them.

use std::time::Duration;

use axum::http::StatusCode;

/// Why a token proves nothing. The text is for the person who asks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntraRefusal {
    /// No token of the kind that Entra issues to clients of an API.
    #[error("The token can not be used: {0}. Send an access token of Microsoft Entra, whole and as it was issued.")]
    Malformed(&'static str),
    /// After its `exp`.
    #[error("The token has expired. Get a new one.")]
    Expired,
    /// Before its `nbf` or its `iat`.
    #[error("The token is not valid yet. Try again in a minute; if it stays so, this server's clock is behind.")]
    NotYetValid,
    /// For somebody else.
    #[error("The token is for another service. Ask Microsoft Entra for a token for this one, with one of its scopes.")]
    Audience,
    /// From somebody else.
    #[error("The token is from another tenant. Sign in to the tenant that this server belongs to.")]
    Issuer,
    /// Changed, or forged.
    #[error("The token's signature is wrong: the token was changed after it was signed. Get a new one.")]
    Signature,
    /// Signed with a key that this tenant's Entra does not have.
    #[error("The token is signed with a key that is none of this tenant's. Get a new one from this server's tenant.")]
    UnknownKey,
    /// In order, but it permits nothing here.
    #[error(
        "The token permits nothing here. Ask for a token with one of this server's scopes; an application of its own \
         needs one of this server's roles, which an administrator assigns."
    )]
    InsufficientScope,
    /// Entra's keys can not be had, so this token is neither good nor bad.
    #[error(
        "The signing keys of Microsoft Entra can not be read, so the token was not checked. Try again in {} s.",
        .retry_after.as_secs()
    )]
    Unavailable {
        /// When it is worth another try: whole seconds, at least one.
        retry_after: Duration,
    },
}

/// Why settings can not work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntraSettingsError {
    /// Where Entra is.
    #[error("the authority is no https address of a host alone, such as https://login.microsoftonline.com")]
    Authority,
    /// Whose tokens to take.
    #[error("the tenant is neither a tenant's id, a UUID, nor one of its domains; `common` and its like are no tenant")]
    Tenant,
    /// For whom tokens are.
    #[error("there is no audience, or one that is empty or has spaces; name this server's client id")]
    Audiences,
    /// What tokens permit.
    #[error("there is neither a scope nor an application role, or one that is empty or has spaces")]
    Permissions,
}

impl EntraRefusal {
    /// The status of the answer, RFC 6750 section 3.1.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::InsufficientScope => StatusCode::FORBIDDEN,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNAUTHORIZED,
        }
    }

    /// The `error` of the header `WWW-Authenticate`, RFC 6750 section 3.1. None where it is not the token's fault.
    pub fn code(&self) -> Option<&'static str> {
        match self {
            Self::InsufficientScope => Some("insufficient_scope"),
            Self::Unavailable { .. } => None,
            _ => Some("invalid_token"),
        }
    }

    /// For the header `Retry-After`.
    pub fn retry_after(&self) -> Option<Duration> {
        if let Self::Unavailable { retry_after } = self { Some(*retry_after) } else { None }
    }

    /// Try again after so long, which is rounded up.
    pub(super) fn unavailable(wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Self::Unavailable { retry_after: Duration::from_secs(seconds.max(1)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_knows_its_answer() {
        use EntraRefusal::*;
        for refusal in [Malformed("x"), Expired, NotYetValid, Audience, Issuer, Signature, UnknownKey] {
            assert_eq!((refusal.status(), refusal.code()), (StatusCode::UNAUTHORIZED, Some("invalid_token")));
            assert_eq!(refusal.retry_after(), None);
        }
        let scope = InsufficientScope;
        assert_eq!((scope.status(), scope.code()), (StatusCode::FORBIDDEN, Some("insufficient_scope")));
        for (wait, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (4999, 5)] {
            let refusal = EntraRefusal::unavailable(Duration::from_millis(wait));
            assert_eq!((refusal.status(), refusal.code()), (StatusCode::SERVICE_UNAVAILABLE, None));
            assert_eq!(refusal.retry_after(), Some(Duration::from_secs(seconds)));
            assert!(refusal.to_string().ends_with(&format!("Try again in {seconds} s.")), "{refusal}");
        }
    }
}
