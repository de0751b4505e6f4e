//! The signed claim: how a transaction says for whom it runs, in a form that SQL inside it can not forge.
//!
//! `v1.<key id>.<principal>.<expires>.<nonce>.<HMAC-SHA-256>`, checked by `rowgate.visible_stores()`
//! (migrations/core/0002_caller.sql). The signature is RFC 2104 over everything before its dot, in hexadecimal.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use rand::TryRng;
use rand::rngs::SysRng;
use sha2::Sha256;

use super::Caller;
use crate::domain::{IdError, KeyId};

/// SHA-256's block, which RFC 2104 pads the key to.
const BLOCK: usize = 64;

/// How long a claim is good for. Longer than any call may take, and room for two clocks that differ.
const LIFETIME: Duration = Duration::from_secs(300);

/// A key that claims are signed with: an id and 32 to 64 secret bytes.
#[derive(Clone)]
pub struct ClaimKey {
    id: KeyId,
    secret: Vec<u8>,
}

/// A claim, ready to be bound to the transaction. Its text is a secret while it lasts.
pub struct Claim(String);

/// Signs claims with the newest key.
#[derive(Clone, Debug)]
pub struct ClaimSigner {
    key: ClaimKey,
}

/// Why a setting holds no claim keys.
#[derive(Debug, thiserror::Error)]
pub enum ClaimKeyError {
    /// Not `id:base64`.
    #[error("a claim key is `<id>:<base64>`")]
    Shape,
    /// The part before the colon.
    #[error("the id of a claim key is malformed")]
    Id(#[source] IdError),
    /// The part after the colon.
    #[error("a claim key is not base64")]
    Base64(#[source] base64::DecodeError),
    /// Too easily guessed, or longer than a block.
    #[error("a claim key has 32 to 64 bytes, not {0}; `openssl rand -base64 32` makes one")]
    Length(usize),
    /// No key at all.
    #[error("there is no claim key")]
    None,
    /// The same id twice.
    #[error("two claim keys have the same id")]
    Twice,
}

impl ClaimKey {
    /// Reads one key, `<id>:<base64 of 32 to 64 bytes>`.
    pub fn parse(text: &str) -> Result<Self, ClaimKeyError> {
        let (id, secret) = text.split_once(':').ok_or(ClaimKeyError::Shape)?;
        let id = KeyId::parse(id).map_err(ClaimKeyError::Id)?;
        let secret = STANDARD.decode(secret).map_err(ClaimKeyError::Base64)?;
        if !(32..=BLOCK).contains(&secret.len()) {
            return Err(ClaimKeyError::Length(secret.len()));
        }
        Ok(Self { id, secret })
    }

    /// Reads several keys, separated by commas. The first one signs; the database accepts all of them.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, ClaimKeyError> {
        let keys =
            text.split(',').map(str::trim).filter(|k| !k.is_empty()).map(Self::parse).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err(ClaimKeyError::None);
        }
        for (n, key) in keys.iter().enumerate() {
            if keys.iter().skip(n + 1).any(|other| other.id == key.id) {
                return Err(ClaimKeyError::Twice);
            }
        }
        Ok(keys)
    }

    /// A new random key of 32 bytes, in the form that [`ClaimKey::parse`] reads.
    pub fn generate(id: &str) -> Result<String, rand::rngs::SysError> {
        let mut secret = [0; 32];
        SysRng.try_fill_bytes(&mut secret)?;
        Ok(format!("{id}:{}", STANDARD.encode(secret)))
    }

    /// Its id.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// The key's inner and outer blocks, RFC 2104 section 2: what the database keeps.
    pub fn pads(&self) -> (Vec<u8>, Vec<u8>) {
        let padded = |with: u8| {
            self.secret.iter().copied().chain(std::iter::repeat(0)).take(BLOCK).map(|b| b ^ with).collect::<Vec<_>>()
        };
        (padded(0x36), padded(0x5c))
    }
}

impl ClaimSigner {
    /// A signer for the first of these keys.
    pub fn new(keys: &[ClaimKey]) -> Result<Self, ClaimKeyError> {
        let key = keys.first().cloned().ok_or(ClaimKeyError::None)?;
        Ok(Self { key })
    }

    /// A claim for this caller, from now on for five minutes.
    pub fn sign(&self, caller: &Caller) -> Claim {
        self.sign_until(caller, SystemTime::now() + LIFETIME)
    }

    /// A claim for this caller until a given time.
    pub fn sign_until(&self, caller: &Caller, expires: SystemTime) -> Claim {
        let expires = expires.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut nonce = [0; 12];
        // Without entropy the claim is still bound to its caller and its time; the nonce only tells two apart.
        SysRng.try_fill_bytes(&mut nonce).unwrap_or_default();
        let signed =
            format!("v1.{}.{}.{expires}.{}", self.key.id.as_str(), caller.principal().as_str(), hexadecimal(&nonce));
        let mac = match Hmac::<Sha256>::new_from_slice(&self.key.secret) {
            Ok(mac) => mac.chain_update(&signed).finalize().into_bytes(),
            // RFC 2104 takes keys of any length.
            Err(_) => unreachable!(),
        };
        Claim(format!("{signed}.{}", hexadecimal(&mac)))
    }
}

impl Claim {
    /// The text to bind. Never place it in SQL text: other sessions can read that.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ClaimKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClaimKey({})", self.id.as_str())
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Claim(…)")
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(|nibble| DIGITS.get(usize::from(nibble))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Principal;

    fn caller() -> Caller {
        Caller::proved(Principal::parse("f47ac10b-58cc-4372-a567-0e02b2c3d479").unwrap())
    }

    #[test]
    fn a_claim_names_its_key_caller_and_time() {
        let keys =
            ClaimKey::parse_list(&format!("k2:{}, k1:{}", STANDARD.encode([7; 32]), STANDARD.encode([1; 64]))).unwrap();
        let claim =
            ClaimSigner::new(&keys).unwrap().sign_until(&caller(), UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let parts: Vec<_> = claim.expose().split('.').collect();
        assert_eq!(&parts[..4], ["v1", "k2", "f47ac10b-58cc-4372-a567-0e02b2c3d479", "1800000000"]);
        assert_eq!((parts.len(), parts[4].len(), parts[5].len()), (6, 24, 64));
        assert!(!format!("{claim:?} {keys:?}").contains(parts[5]));
    }

    /// RFC 4231, test case 1 and 2 keys are shorter than we accept, so the pads are checked by their definition.
    #[test]
    fn pads_are_those_of_rfc_2104() {
        let key = ClaimKey::parse(&format!("k:{}", STANDARD.encode([0x0b; 40]))).unwrap();
        let (inner, outer) = key.pads();
        assert_eq!((inner.len(), outer.len()), (64, 64));
        assert_eq!((inner[0], inner[63], outer[0], outer[63]), (0x0b ^ 0x36, 0x36, 0x0b ^ 0x5c, 0x5c));
    }

    #[test]
    fn bad_keys_say_why() {
        let key = |n: usize| format!("k:{}", STANDARD.encode(vec![1; n]));
        assert!(matches!(ClaimKey::parse_list(""), Err(ClaimKeyError::None)));
        assert!(matches!(ClaimKey::parse("abc"), Err(ClaimKeyError::Shape)));
        assert!(matches!(ClaimKey::parse("a.b:abc"), Err(ClaimKeyError::Id(_))));
        assert!(matches!(ClaimKey::parse("k:???"), Err(ClaimKeyError::Base64(_))));
        assert!(matches!(ClaimKey::parse(&key(31)), Err(ClaimKeyError::Length(31))));
        assert!(matches!(ClaimKey::parse(&key(65)), Err(ClaimKeyError::Length(65))));
        assert!(matches!(ClaimKey::parse_list(&format!("{},{}", key(32), key(33))), Err(ClaimKeyError::Twice)));
        assert_eq!(ClaimKey::parse(&ClaimKey::generate("a").unwrap()).unwrap().id().as_str(), "a");
    }
}
