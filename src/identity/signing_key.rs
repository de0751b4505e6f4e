//! Keys that claims and issued tokens are signed with, and where they come from: a setting, or a vault that has to be
//! asked first.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use hmac::{Hmac, KeyInit, Mac};
use rand::TryRng;
use rand::rngs::SysRng;
use sha2::Sha256;

use crate::domain::{IdError, KeyId};

/// SHA-256's block, which RFC 2104 pads the key to.
const BLOCK: usize = 64;

/// A key of HMAC-SHA-256 (RFC 2104): an id and 32 to 64 secret bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey {
    id: KeyId,
    secret: Vec<u8>,
}

/// Signing keys, the newest first: it signs, and all of them are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKeys {
    newest: SigningKey,
    older: Vec<SigningKey>,
}

/// Where signing keys come from. Kept, so that asking costs nothing on a call.
pub trait KeySource: Send + Sync {
    /// The keys, fetched first if they have to be.
    fn keys(&self) -> BoxFuture<'_, Result<Arc<SigningKeys>, KeysUnavailable>>;

    /// Says that a signature by the newest key was not believed: it may have been replaced.
    fn refused(&self) {}
}

/// There are no keys now.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the signing keys can not be had now")]
pub struct KeysUnavailable {
    /// When to ask again.
    pub retry_after: Duration,
    /// Why.
    #[source]
    pub source: Arc<dyn StdError + Send + Sync>,
}

/// Why a text holds no signing keys.
#[derive(Debug, thiserror::Error)]
pub enum SigningKeyError {
    /// Not `id:base64`.
    #[error("a signing key is `<id>:<base64>`")]
    Shape,
    /// The part before the colon.
    #[error("the id of a signing key is malformed")]
    Id(#[source] IdError),
    /// The part after the colon.
    #[error("a signing key is not base64")]
    Base64(#[source] base64::DecodeError),
    /// Too easily guessed, or longer than a block.
    #[error("a signing key has 32 to 64 bytes, not {0}; `openssl rand -base64 32` makes one")]
    Length(usize),
    /// No key at all.
    #[error("there is no signing key")]
    None,
    /// The same id twice.
    #[error("two signing keys have the same id")]
    Twice,
}

impl SigningKey {
    /// Reads one key, `<id>:<base64 of 32 to 64 bytes>`.
    pub fn parse(text: &str) -> Result<Self, SigningKeyError> {
        let (id, secret) = text.split_once(':').ok_or(SigningKeyError::Shape)?;
        let id = KeyId::parse(id).map_err(SigningKeyError::Id)?;
        let secret = STANDARD.decode(secret).map_err(SigningKeyError::Base64)?;
        if !(32..=BLOCK).contains(&secret.len()) {
            return Err(SigningKeyError::Length(secret.len()));
        }
        Ok(Self { id, secret })
    }

    /// A new random key of 32 bytes, in the form that [`SigningKey::parse`] reads.
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

    /// The signature of a text, RFC 2104.
    pub(super) fn sign(&self, text: &str) -> [u8; 32] {
        self.mac(text).finalize().into_bytes().into()
    }

    /// Whether this is the signature of a text; takes the same time wherever they differ.
    pub(super) fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        self.mac(text).verify_slice(signature).is_ok()
    }

    fn mac(&self, text: &str) -> Hmac<Sha256> {
        match Hmac::<Sha256>::new_from_slice(&self.secret) {
            Ok(mac) => mac.chain_update(text),
            // RFC 2104 takes keys of any length.
            Err(_) => unreachable!(),
        }
    }
}

impl SigningKeys {
    /// Reads keys, separated by commas. The first one signs.
    pub fn parse(text: &str) -> Result<Self, SigningKeyError> {
        let keys = text.split(',').map(str::trim).filter(|key| !key.is_empty()).map(SigningKey::parse);
        let mut keys = keys.collect::<Result<Vec<_>, _>>()?.into_iter();
        let newest = keys.next().ok_or(SigningKeyError::None)?;
        let keys = Self { newest, older: keys.collect() };
        let mut ids: Vec<_> = keys.iter().map(|key| key.id.as_str()).collect();
        ids.sort_unstable();
        let all = ids.len();
        ids.dedup();
        if ids.len() < all { Err(SigningKeyError::Twice) } else { Ok(keys) }
    }

    /// The key that signs.
    pub fn newest(&self) -> &SigningKey {
        &self.newest
    }

    /// All of them, the newest first.
    pub fn iter(&self) -> impl Iterator<Item = &SigningKey> {
        [&self.newest].into_iter().chain(&self.older)
    }

    /// The key of an id.
    pub(super) fn find(&self, id: &KeyId) -> Option<&SigningKey> {
        self.iter().find(|key| key.id == *id)
    }
}

/// Keys that are there already.
impl KeySource for Arc<SigningKeys> {
    fn keys(&self) -> BoxFuture<'_, Result<Arc<SigningKeys>, KeysUnavailable>> {
        ready(Ok(Arc::clone(self))).boxed()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.id.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 1 and 2 keys are shorter than we accept, so the pads are checked by their definition.
    #[test]
    fn pads_are_those_of_rfc_2104() {
        let key = SigningKey::parse(&format!("k:{}", STANDARD.encode([0x0b; 40]))).unwrap();
        let (inner, outer) = key.pads();
        assert_eq!((inner.len(), outer.len()), (64, 64));
        assert_eq!((inner[0], inner[63], outer[0], outer[63]), (0x0b ^ 0x36, 0x36, 0x0b ^ 0x5c, 0x5c));
    }

    #[test]
    fn the_first_key_signs_and_every_key_is_found() {
        let keys = SigningKeys::parse(&format!("k2:{}, k1:{}", STANDARD.encode([7; 32]), STANDARD.encode([1; 64])));
        let keys = keys.unwrap();
        assert_eq!(keys.newest().id().as_str(), "k2");
        let old = keys.find(&KeyId::parse("k1").unwrap()).unwrap();
        let signature = old.sign("text");
        assert!(old.verifies("text", &signature) && !keys.newest().verifies("text", &signature));
        assert!(!old.verifies("texts", &signature) && !old.verifies("text", &signature[..31]));
        assert!(keys.find(&KeyId::parse("k3").unwrap()).is_none());
        assert_eq!(format!("{keys:?}"), "SigningKeys { newest: SigningKey(k2), older: [SigningKey(k1)] }");
    }

    #[test]
    fn bad_keys_say_why() {
        let key = |n: usize| format!("k:{}", STANDARD.encode(vec![1; n]));
        let of = |text: &str| SigningKeys::parse(text).unwrap_err();
        assert!(matches!(of(""), SigningKeyError::None));
        assert!(matches!(of("abc"), SigningKeyError::Shape));
        assert!(matches!(of("a.b:abc"), SigningKeyError::Id(_)));
        assert!(matches!(of("k:???"), SigningKeyError::Base64(_)));
        assert!(matches!(of(&key(31)), SigningKeyError::Length(31)));
        assert!(matches!(of(&key(65)), SigningKeyError::Length(65)));
        assert!(matches!(of(&format!("{},{}", key(32), key(33))), SigningKeyError::Twice));
        assert_eq!(SigningKey::parse(&SigningKey::generate("a").unwrap()).unwrap().id().as_str(), "a");
    }
}
