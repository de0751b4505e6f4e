//! Ids that arrive as text from outside. A value of these types is safe to place in a claim.

use std::fmt;

/// Who asks, as the identity provider names them: a UUID for the sample's stores and for Entra's objects.
///
/// 1 to 128 characters of `A-Z a-z 0-9 : _ -`, the first a letter or digit. It has no `.`, the claim's separator.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Principal(String);

/// Which of the signing keys made a claim: 1 to 32 characters of `A-Z a-z 0-9 _ -`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyId(String);

/// Which issued token: 16 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenId(String);

/// Why a text is no id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IdError {
    /// The text is no principal.
    #[error("a principal has 1 to 128 characters, letters, digits, `:`, `_` or `-`, and starts with a letter or digit")]
    Principal,
    /// The text is no key id.
    #[error("a key id has 1 to 32 characters: letters, digits, `_` or `-`")]
    KeyId,
    /// The text is no token id.
    #[error("the id of a token has 16 hexadecimal digits; `rowgate token list` shows it")]
    TokenId,
}

impl Principal {
    /// Reads a principal from text that is not trusted yet.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let fits = (1..=128).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b":_-".contains(&b));
        if fits { Ok(Self(text.to_owned())) } else { Err(IdError::Principal) }
    }

    /// The text, as it stands in the claim and in `rowgate.principals`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl KeyId {
    /// Reads a key id from a setting.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let fits =
            (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
        if fits { Ok(Self(text.to_owned())) } else { Err(IdError::KeyId) }
    }

    /// The text, as it stands in the claim and in `rowgate.claim_keys`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TokenId {
    /// Reads a token's id from text that is not trusted yet.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let fits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if fits { Ok(Self(text.to_owned())) } else { Err(IdError::TokenId) }
    }

    /// The text, as it stands in the claim and in `rowgate.tokens`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_can_not_carry_the_separator_of_a_claim() {
        for text in ["", "a.b", "-a", "a b", "ä", "a\n", &"a".repeat(129)] {
            assert_eq!(Principal::parse(text), Err(IdError::Principal), "{text:?}");
        }
        for text in ["f47ac10b-58cc-4372-a567-0e02b2c3d479", "a", "tenant:object", &"a".repeat(128)] {
            assert_eq!(Principal::parse(text).map(|p| p.as_str().to_owned()), Ok(text.to_owned()));
        }
    }
}
