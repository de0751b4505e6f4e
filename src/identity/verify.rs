//! How a request proves who asks. The only place that makes a [`Caller`], and there is no default one.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;

use super::Caller;
use super::easy_auth::{self, PlatformRefusal};
use super::entra::{EntraRefusal, EntraVerifier};
use super::issued::{self, TokenRefusal};
use super::signing_key::{KeySource, KeysUnavailable};
use crate::domain::Principal;

/// The header that names the caller in development.
pub const DEVELOPMENT_HEADER: &str = "x-rls-user-id";

/// How people and programs sign in.
pub enum SignIn {
    /// Believes the header [`DEVELOPMENT_HEADER`]. For development, or behind a proxy that sets it itself.
    TrustedHeader,
    /// Believes what App Service authentication says, as long as it is on.
    EasyAuth {
        /// Whether the platform says that it is on.
        enabled: bool,
    },
    /// Checks Entra's access tokens itself.
    Entra(EntraVerifier),
}

/// The ways to prove who asks that this server takes.
pub struct Verifier {
    sign_in: Option<SignIn>,
    issued: Option<Arc<dyn KeySource>>,
}

/// Why a request has no caller. The text is for the person who asks.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refusal {
    /// No proof at all, where a header would be believed.
    #[error("No caller: send the header {DEVELOPMENT_HEADER} with the id of the caller.")]
    Missing,
    /// A proof that can not be read, or two of them.
    #[error("The header {DEVELOPMENT_HEADER} holds no caller id: send one id, such as a UUID.")]
    Malformed,
    /// No proof at all, where a token is needed.
    #[error("No caller: send a bearer token in the header Authorization.")]
    NoToken,
    /// The header Authorization is something else.
    #[error("The header Authorization holds no bearer token: send it once, as `Bearer <token>`.")]
    NoBearer,
    /// By the platform.
    #[error(transparent)]
    Platform(#[from] PlatformRefusal),
    /// By Entra's token.
    #[error(transparent)]
    Entra(#[from] EntraRefusal),
    /// By an issued token.
    #[error(transparent)]
    Issued(#[from] TokenRefusal),
    /// Nobody can be proved right now.
    #[error("Tokens can not be checked right now. Try again in a few seconds.")]
    Keys(#[from] KeysUnavailable),
}

/// What HTTP says of a refusal, RFC 6750 section 3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// What was asked needs no challenge: what a caller is for says so itself.
    None,
    /// 401, without an error code: there was no proof at all.
    SignIn,
    /// 401, `invalid_token`.
    InvalidToken,
    /// 403, `insufficient_scope`.
    InsufficientScope,
    /// 503, to be tried again after this time.
    TryAgain(Duration),
}

impl Verifier {
    /// A verifier that takes these ways. `issued`: the keys of issued tokens, if those are taken.
    pub fn new(sign_in: Option<SignIn>, issued: Option<Arc<dyn KeySource>>) -> Self {
        Self { sign_in, issued }
    }

    /// Believes the development header.
    pub fn trusted_header() -> Self {
        Self::new(Some(SignIn::TrustedHeader), None)
    }

    /// Entra's tokens, if this server checks them itself.
    pub fn entra(&self) -> Option<&EntraVerifier> {
        match &self.sign_in {
            Some(SignIn::Entra(entra)) => Some(entra),
            _ => None,
        }
    }

    /// Proves who sent a request with these headers.
    pub async fn verify(&self, headers: &HeaderMap) -> Result<Caller, Refusal> {
        if let Some(source) = &self.issued
            && let Ok(Some(token)) = bearer(headers)
            && token.starts_with(issued::PREFIX)
        {
            return Ok(issued::verify(&*source.keys().await?, token, SystemTime::now())?);
        }
        match &self.sign_in {
            Some(SignIn::TrustedHeader) => trusted(headers),
            Some(SignIn::EasyAuth { enabled }) => Ok(easy_auth::verify(headers, *enabled)?),
            Some(SignIn::Entra(entra)) => {
                let token = bearer(headers)?.ok_or(Refusal::NoToken)?;
                let mut principals = entra.verify(token).await?.into_iter();
                let principal = principals.next().ok_or(Refusal::NoToken)?;
                Ok(Caller::proved(principal).also(principals.collect()))
            }
            None => match bearer(headers)? {
                Some(_) => Err(Refusal::Issued(TokenRefusal::Unknown)),
                None => Err(Refusal::NoToken),
            },
        }
    }
}

impl Refusal {
    /// Its kind, in a word.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "no caller",
            Self::Malformed => "malformed caller",
            Self::NoToken | Self::Platform(PlatformRefusal::NotSignedIn) => "not signed in",
            Self::NoBearer => "no bearer token",
            Self::Entra(EntraRefusal::InsufficientScope) => "insufficient scope",
            Self::Entra(EntraRefusal::Unavailable { .. }) | Self::Keys(_) => "keys unavailable",
            Self::Platform(_) => "platform",
            Self::Entra(_) => "entra token",
            Self::Issued(_) => "issued token",
        }
    }

    /// What HTTP says of it.
    pub fn challenge(&self) -> Challenge {
        match self {
            Self::Missing | Self::Malformed => Challenge::None,
            Self::NoToken | Self::Platform(PlatformRefusal::NotSignedIn) => Challenge::SignIn,
            Self::NoBearer | Self::Platform(_) | Self::Issued(_) => Challenge::InvalidToken,
            Self::Entra(EntraRefusal::InsufficientScope) => Challenge::InsufficientScope,
            Self::Entra(EntraRefusal::Unavailable { retry_after }) => Challenge::TryAgain(*retry_after),
            Self::Entra(_) => Challenge::InvalidToken,
            Self::Keys(unavailable) => Challenge::TryAgain(unavailable.retry_after),
        }
    }
}

fn trusted(headers: &HeaderMap) -> Result<Caller, Refusal> {
    let mut values = headers.get_all(DEVELOPMENT_HEADER).iter();
    let value = values.next().ok_or(Refusal::Missing)?;
    if values.next().is_some() {
        return Err(Refusal::Malformed);
    }
    let text = value.to_str().map_err(|_| Refusal::Malformed)?.trim();
    Principal::parse(text).map(Caller::proved).map_err(|_| Refusal::Malformed)
}

/// The bearer token of the one Authorization header, RFC 6750 section 2.1. The scheme's name has no case.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refusal::NoBearer);
    }
    let (scheme, token) = value.to_str().ok().and_then(|text| text.trim().split_once(' ')).ok_or(Refusal::NoBearer)?;
    let token = token.trim();
    if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() { Ok(Some(token)) } else { Err(Refusal::NoBearer) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{IssuedToken, SigningKey, SigningKeys};
    use axum::http::{HeaderName, HeaderValue};
    use futures_util::FutureExt;

    fn verify(verifier: &Verifier, name: &'static str, values: &[&[u8]]) -> Result<Caller, Refusal> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
        }
        verifier.verify(&headers).now_or_never().unwrap()
    }

    #[test]
    fn there_is_no_default_caller() {
        let verifier = Verifier::trusted_header();
        let sent = |values: &[&[u8]]| verify(&verifier, DEVELOPMENT_HEADER, values);
        assert!(matches!(sent(&[]), Err(Refusal::Missing)));
        for values in [&[&b""[..]][..], &[b"a.b"], &[b"\xff"], &[b"a", b"b"], &[b"a,b"], &[b"' or 1=1 --"]] {
            assert!(matches!(sent(values), Err(Refusal::Malformed)));
        }
        assert_eq!(sent(&[b" f47ac10b-58cc "]).unwrap().principal().as_str(), "f47ac10b-58cc");
        assert!(matches!(verify(&Verifier::new(None, None), DEVELOPMENT_HEADER, &[b"a"]), Err(Refusal::NoToken)));
    }

    #[test]
    fn an_issued_token_is_taken_where_it_is_turned_on() {
        let keys = Arc::new(SigningKeys::parse(&SigningKey::generate("t").unwrap()).unwrap());
        let agent = Principal::parse("agent").unwrap();
        let token = IssuedToken::issue(keys.newest(), &agent, Duration::from_secs(3600)).unwrap();
        let sent = [&b"Bearer "[..], token.expose().as_bytes()].concat();
        let on = Verifier::new(None, Some(Arc::new(Arc::clone(&keys))));
        let off = Verifier::new(Some(SignIn::EasyAuth { enabled: true }), None);
        assert_eq!(verify(&on, "authorization", &[&sent]).unwrap().principal(), &agent);
        assert!(matches!(
            verify(&off, "authorization", &[&sent]),
            Err(Refusal::Platform(PlatformRefusal::NotSignedIn))
        ));
        for values in
            [&[&b"Basic abc"[..]][..], &[b"Bearer"], &[b"Bearer "], &[&sent, &sent], &[token.expose().as_bytes()]]
        {
            assert!(matches!(verify(&on, "authorization", values), Err(Refusal::NoBearer)), "{values:?}");
        }
        let other = verify(&on, "authorization", &[b"bearer ey"]).unwrap_err();
        assert_eq!(other.challenge(), Challenge::InvalidToken);
        assert_eq!(verify(&on, "authorization", &[]).unwrap_err().challenge(), Challenge::SignIn);
    }
}
