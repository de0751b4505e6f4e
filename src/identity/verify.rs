//! How a request proves who asks. The only place that makes a [`Caller`].

use axum::http::HeaderMap;

use super::Caller;
use crate::domain::Principal;

/// The header that names the caller in development.
pub const DEVELOPMENT_HEADER: &str = "x-rls-user-id";

/// A way to prove who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verifier {
    /// Believes the header [`DEVELOPMENT_HEADER`]. For development, or behind a proxy that sets it itself.
    TrustedHeader,
}

/// Why a request has no caller. The text is for the person who asks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No proof at all.
    #[error("No caller: send the header {DEVELOPMENT_HEADER} with the id of the caller.")]
    Missing,
    /// A proof that can not be read, or two of them.
    #[error("The header {DEVELOPMENT_HEADER} holds no caller id: send one id, such as a UUID.")]
    Malformed,
}

impl Verifier {
    /// Proves who sent a request with these headers. There is no default caller.
    pub fn verify(self, headers: &HeaderMap) -> Result<Caller, Refusal> {
        match self {
            Self::TrustedHeader => {
                let mut values = headers.get_all(DEVELOPMENT_HEADER).iter();
                let value = values.next().ok_or(Refusal::Missing)?;
                if values.next().is_some() {
                    return Err(Refusal::Malformed);
                }
                let text = value.to_str().map_err(|_| Refusal::Malformed)?.trim();
                Principal::parse(text).map(Caller::proved).map_err(|_| Refusal::Malformed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&'static [u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(DEVELOPMENT_HEADER, axum::http::HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    #[test]
    fn there_is_no_default_caller() {
        let refused = |values: &[&'static [u8]]| Verifier::TrustedHeader.verify(&headers(values)).unwrap_err();
        assert_eq!(refused(&[]), Refusal::Missing);
        for values in [&[&b""[..]][..], &[b"a.b"], &[b"\xff"], &[b"a", b"b"], &[b"a,b"], &[b"' or 1=1 --"]] {
            assert_eq!(refused(values), Refusal::Malformed);
        }
        let caller = Verifier::TrustedHeader.verify(&headers(&[b" f47ac10b-58cc "])).unwrap();
        assert_eq!(caller.principal().as_str(), "f47ac10b-58cc");
    }
}
