//! Issued tokens, for agents and clients that can not sign in with Entra. Verified by their signature alone; whether
//! one was revoked, the database says inside the call's own round trip.
//!
//! `rgt1.<key id>.<token id>.<principal>.<expires>.<HMAC-SHA-256>`: signed over [`SIGNED_FOR`] and everything before its
//! dot, in hexadecimal. Sent as a bearer token (RFC 6750 section 2.1).

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::TryRng;
use rand::rngs::SysRng;

use super::Caller;
use super::claim::hexadecimal;
use super::signing_key::{SigningKey, SigningKeys};
use crate::domain::{KeyId, Principal, TokenId};

/// What an issued token begins with.
pub(super) const PREFIX: &str = "rgt1.";

/// Keeps a signature of a token from being one of a claim, should both have the same key.
const SIGNED_FOR: &str = "rowgate issued token\n";

/// The longest that a token may last.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// A token for a principal. Its text is shown once, to whom it is issued.
pub struct IssuedToken {
    id: TokenId,
    expires: SystemTime,
    text: String,
}

/// Why no token was issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// It would last for too long, or not at all.
    #[error("a token lasts for a minute at least and 366 days at most")]
    Lifetime,
    /// No randomness for its id.
    #[error("the system gives no random bytes")]
    Random(#[source] rand::rngs::SysError),
}

/// Why a token proves nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// Not of its shape, or signed by nobody we know. One sentence for both, so that guesses learn nothing.
    #[error(
        "The token is not one that this server issued, or the key it was signed with is retired: ask for a new one."
    )]
    Unknown,
    /// It has ended.
    #[error("The token has expired: ask for a new one.")]
    Expired,
}

impl IssuedToken {
    /// Signs a token for a principal, from now on.
    pub fn issue(key: &SigningKey, principal: &Principal, lasts: Duration) -> Result<Self, IssueError> {
        if !(Duration::from_secs(60)..=LONGEST).contains(&lasts) {
            return Err(IssueError::Lifetime);
        }
        let mut id = [0; 8];
        SysRng.try_fill_bytes(&mut id).map_err(IssueError::Random)?;
        let seconds = (SystemTime::now() + lasts).duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let id = hexadecimal(&id);
        let body = format!("{PREFIX}{}.{id}.{}.{seconds}", key.id().as_str(), principal.as_str());
        let signature = hexadecimal(&key.sign(&format!("{SIGNED_FOR}{body}")));
        let id = TokenId::parse(&id).map_err(|_| IssueError::Lifetime)?;
        Ok(Self { id, expires: UNIX_EPOCH + Duration::from_secs(seconds), text: format!("{body}.{signature}") })
    }

    /// Its id, by which it is listed and revoked.
    pub fn id(&self) -> &TokenId {
        &self.id
    }

    /// When it ends.
    pub fn expires(&self) -> SystemTime {
        self.expires
    }

    /// The token itself, a secret.
    pub fn expose(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IssuedToken({})", self.id.as_str())
    }
}

/// The caller that a token proves at a given time.
pub(super) fn verify(keys: &SigningKeys, token: &str, now: SystemTime) -> Result<Caller, TokenRefusal> {
    let (body, signature) = token.rsplit_once('.').ok_or(TokenRefusal::Unknown)?;
    let mut parts = body.strip_prefix(PREFIX).ok_or(TokenRefusal::Unknown)?.split('.');
    let (Some(key), Some(id), Some(principal), Some(expires), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(TokenRefusal::Unknown);
    };
    let key = KeyId::parse(key).ok().and_then(|id| keys.find(&id)).ok_or(TokenRefusal::Unknown)?;
    let signature = bytes(signature).ok_or(TokenRefusal::Unknown)?;
    if !key.verifies(&format!("{SIGNED_FOR}{body}"), &signature) {
        return Err(TokenRefusal::Unknown);
    }
    let principal = Principal::parse(principal).map_err(|_| TokenRefusal::Unknown)?;
    let id = TokenId::parse(id).map_err(|_| TokenRefusal::Unknown)?;
    let expires = expires.parse().map_err(|_| TokenRefusal::Unknown)?;
    if now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() >= expires {
        return Err(TokenRefusal::Expired);
    }
    Ok(Caller::proved(principal).by_token(id))
}

/// The bytes of lower-case hexadecimal digits.
fn bytes(digits: &str) -> Option<Vec<u8>> {
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some(nibble(*high)? << 4 | nibble(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn keys(ids: &[&str]) -> SigningKeys {
        let keys: Vec<_> = ids.iter().map(|id| SigningKey::generate(id).unwrap()).collect();
        SigningKeys::parse(&keys.join(",")).unwrap()
    }

    #[test]
    fn a_token_proves_its_principal_until_it_ends() {
        let keys = keys(&["t2", "t1"]);
        let principal = Principal::parse("agent-7").unwrap();
        for key in keys.iter() {
            let token = IssuedToken::issue(key, &principal, DAY).unwrap();
            let caller = verify(&keys, token.expose(), SystemTime::now()).unwrap();
            assert_eq!((caller.principal(), caller.token()), (&principal, Some(token.id())));
            assert!(verify(&keys, token.expose(), token.expires() - Duration::from_secs(1)).is_ok());
            assert_eq!(verify(&keys, token.expose(), token.expires()).unwrap_err(), TokenRefusal::Expired);
            assert!(!format!("{token:?}").contains(token.expose()));
        }
        for lasts in [Duration::ZERO, Duration::from_secs(59), LONGEST + DAY] {
            assert!(matches!(IssuedToken::issue(keys.newest(), &principal, lasts), Err(IssueError::Lifetime)));
        }
    }

    #[test]
    fn nothing_in_a_token_can_be_changed() {
        let keys = keys(&["t"]);
        let token = IssuedToken::issue(keys.newest(), &Principal::parse("agent").unwrap(), DAY).unwrap();
        let text = token.expose();
        let now = SystemTime::now();
        for at in 0..text.len() {
            for with in ["0", "a", ".", "", "00", "é"] {
                let changed = format!("{}{with}{}", &text[..at], &text[at + 1..]);
                if changed != text {
                    assert_eq!(verify(&keys, &changed, now).unwrap_err(), TokenRefusal::Unknown, "{changed}");
                }
            }
            assert_eq!(verify(&keys, &text[..at], now).unwrap_err(), TokenRefusal::Unknown);
        }
        assert_eq!(verify(&self::keys(&["t"]), text, now).unwrap_err(), TokenRefusal::Unknown);
        assert_eq!(verify(&self::keys(&["other"]), text, now).unwrap_err(), TokenRefusal::Unknown);
        // The same key's signature without what keeps tokens and claims apart.
        let body = text.rsplit_once('.').unwrap().0;
        let signed_as_claim = format!("{body}.{}", hexadecimal(&keys.newest().sign(body)));
        assert_eq!(verify(&keys, &signed_as_claim, now).unwrap_err(), TokenRefusal::Unknown);
    }
}
