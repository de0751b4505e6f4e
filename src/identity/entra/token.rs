//! The outside of a token: a JWS in compact form, RFC 7515 section 7.1. Its inside is read only once a key has proved
//! who made it. Reads text only.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use super::EntraRefusal;
use super::claims::Claims;
use super::key_set::{ALGORITHM, SigningKey};

/// A token with 200 groups and as many roles has about 14 kB.
const LONGEST: usize = 16 << 10;
/// Entra's key ids have 27 characters.
const LONGEST_KEY_ID: usize = 128;

/// A token that nobody has vouched for yet.
pub(super) struct Token<'a> {
    /// What the signature is over: header and payload, as they came.
    message: &'a str,
    payload: &'a str,
    signature: Vec<u8>,
    key_id: String,
}

/// What of the header matters. Keys in it or links to keys (`jwk`, `jku`, `x5c`, `x5u`) are whoever's made the token,
/// so they are not read. A member that stands there twice is refused (RFC 7515 section 4).
#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
    crit: Option<Value>,
}

impl<'a> Token<'a> {
    /// Takes a token apart. Fails on what Entra does not issue.
    pub(super) fn parse(bearer: &'a str) -> Result<Self, EntraRefusal> {
        use EntraRefusal::Malformed;
        if bearer.len() > LONGEST {
            return Err(Malformed("it is longer than 16 kB"));
        }
        let parts = bearer.rsplit_once('.').and_then(|(message, end)| Some((message, message.split_once('.')?, end)));
        let parts = parts.filter(|(_, (_, payload), _)| !payload.contains('.'));
        let (message, (header, payload), signature) = parts.ok_or(Malformed("it is no JSON web token"))?;
        let signature = decode(signature).ok_or(Malformed("its signature is not base64url"))?;
        let header = decode(header).and_then(|json| serde_json::from_slice::<Header>(&json).ok());
        let header = header.ok_or(Malformed("its header is not that of an access token"))?;
        if header.alg != ALGORITHM {
            return Err(Malformed("it is not signed with RS256"));
        }
        if !["JWT", "at+jwt", "application/at+jwt"].iter().any(|typ| header.typ.eq_ignore_ascii_case(typ)) {
            return Err(Malformed("its type is not JWT"));
        }
        // No extension is understood here, so none may be critical (RFC 7515 section 4.1.11).
        if header.crit.is_some() {
            return Err(Malformed("it has critical extensions"));
        }
        let key_id = header.kid;
        if !(1..=LONGEST_KEY_ID).contains(&key_id.len()) || !key_id.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Malformed("the id of its key is none of Entra's"));
        }
        Ok(Self { message, payload, signature, key_id })
    }

    /// The id of the key that is said to have signed it.
    pub(super) fn key_id(&self) -> &str {
        &self.key_id
    }

    /// What this key has signed.
    pub(super) fn claims(&self, key: &SigningKey) -> Result<Claims, EntraRefusal> {
        if !key.signed(self.message, &self.signature) {
            return Err(EntraRefusal::Signature);
        }
        let claims = decode(self.payload).and_then(|json| serde_json::from_slice(&json).ok());
        claims.ok_or(EntraRefusal::Malformed("its claims are not those of an access token"))
    }
}

/// RFC 7515 section 2: no padding, and no bits to spare in the last character.
fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    fn parse(header: &str) -> Result<String, EntraRefusal> {
        let token = format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode("{}"));
        Token::parse(&token).map(|token| token.key_id().to_owned())
    }

    fn why(outcome: Result<String, EntraRefusal>) -> &'static str {
        let Err(EntraRefusal::Malformed(why)) = outcome else { panic!("{outcome:?}") };
        why
    }

    #[test]
    fn headers_of_entra() {
        for typ in ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt"] {
            let header = format!(r#"{{"typ":"{typ}","alg":"RS256","kid":"nOo3ZDrODXEK1jKWhXslHR_KXEg","x5t":"a"}}"#);
            assert_eq!(parse(&header).unwrap(), "nOo3ZDrODXEK1jKWhXslHR_KXEg");
        }
        let theirs = r#""jwk":{"kty":7},"jku":"https://example.com","x5u":"https://example.com","x5c":["a"],"nonce":1"#;
        assert_eq!(parse(&format!(r#"{{"typ":"JWT","alg":"RS256","kid":"k",{theirs}}}"#)).unwrap(), "k");
    }

    #[test]
    fn headers_of_others() {
        for (header, says) in [
            (r#"{"typ":"JWT","alg":"none","kid":"k"}"#, "it is not signed with RS256"),
            (r#"{"typ":"JWT","alg":"None","kid":"k"}"#, "it is not signed with RS256"),
            (r#"{"typ":"JWT","alg":"","kid":"k"}"#, "it is not signed with RS256"),
            (r#"{"typ":"JWT","alg":"HS256","kid":"k"}"#, "it is not signed with RS256"),
            (r#"{"typ":"JWT","alg":"RS512","kid":"k"}"#, "it is not signed with RS256"),
            (r#"{"typ":"JWT","alg":"PS256","kid":"k"}"#, "it is not signed with RS256"),
            (r#"{"typ":"JWT","alg":"ES256","kid":"k"}"#, "it is not signed with RS256"),
            (r#"{"typ":"JWT","alg":"rs256","kid":"k"}"#, "it is not signed with RS256"),
            (r#"{"typ":"JWE","alg":"RS256","kid":"k"}"#, "its type is not JWT"),
            (r#"{"typ":"dpop+jwt","alg":"RS256","kid":"k"}"#, "its type is not JWT"),
            (r#"{"typ":"JWT","alg":"RS256","kid":"k","crit":["exp"]}"#, "it has critical extensions"),
            (r#"{"typ":"JWT","alg":"RS256","kid":"k","crit":[]}"#, "it has critical extensions"),
            (r#"{"typ":"JWT","alg":"RS256","kid":""}"#, "the id of its key is none of Entra's"),
            (r#"{"typ":"JWT","alg":"RS256","kid":"a b"}"#, "the id of its key is none of Entra's"),
            (r#"{"typ":"JWT","alg":"RS256","kid":"a\u0000"}"#, "the id of its key is none of Entra's"),
            (r#"{"typ":"JWT","alg":"RS256","kid":"kä"}"#, "the id of its key is none of Entra's"),
            (r#"{"alg":"RS256","kid":"k"}"#, "its header is not that of an access token"),
            (r#"{"typ":"JWT","kid":"k"}"#, "its header is not that of an access token"),
            (r#"{"typ":"JWT","alg":"RS256"}"#, "its header is not that of an access token"),
            (r#"{"typ":"JWT","alg":"RS256","kid":null}"#, "its header is not that of an access token"),
            (r#"{"typ":"JWT","alg":"RS256","kid":7}"#, "its header is not that of an access token"),
            (r#"{"typ":"JWT","alg":["RS256"],"kid":"k"}"#, "its header is not that of an access token"),
            (r#"{"typ":"JWT","alg":"RS256","kid":"k","alg":"RS256"}"#, "its header is not that of an access token"),
            (r#"{"typ":"JWT","alg":"RS256","kid":"k"}x"#, "its header is not that of an access token"),
            ("", "its header is not that of an access token"),
            ("[]", "its header is not that of an access token"),
            ("\u{feff}{}", "its header is not that of an access token"),
        ] {
            assert_eq!(why(parse(header)), says, "{header}");
        }
        let long = |length| format!(r#"{{"typ":"JWT","alg":"RS256","kid":"{}"}}"#, "k".repeat(length));
        assert_eq!(parse(&long(128)).unwrap().len(), 128);
        assert_eq!(why(parse(&long(129))), "the id of its key is none of Entra's");
    }

    #[test]
    fn what_is_no_token() {
        let header = URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"RS256","kid":"k"}"#);
        let parse = |text: &str| Token::parse(text).map(|token| token.key_id().to_owned());
        let room = LONGEST - header.len() - 2;
        assert!(parse(&format!("{header}.{}.", "a".repeat(room))).is_ok());
        assert_eq!(why(parse(&format!("{header}.{}.", "a".repeat(room + 1)))), "it is longer than 16 kB");
        for text in ["", "a", "a.b", "a.b.c.d", "a.b.c.d.e", "....", &header, "Bearer abc"] {
            assert_eq!(why(parse(text)), "it is no JSON web token", "{text}");
        }
        for text in [&format!("{header}.e30.c2ln="), &format!("{header}.e30.c2ln\n"), &format!("{header}.e30.a+b/")] {
            assert_eq!(why(parse(text)), "its signature is not base64url", "{text}");
        }
        for text in ["..", ".e30.c2ln", "a.b.c2ln", &format!(" {header}.e30.c2ln"), &format!("Bearer {header}.e30.")] {
            assert_eq!(why(parse(text)), "its header is not that of an access token", "{text}");
        }
    }

    /// Whatever comes, an answer comes.
    #[test]
    fn nothing_makes_it_panic() {
        let mut random = rand::rngs::ChaCha8Rng::seed_from_u64(7);
        let header = URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"RS256","kid":"k"}"#);
        let token = format!("{header}.e30.c2ln");
        let letters: Vec<char> = "..=-_aAz09+/ \"{}\u{0}\n€𝄞".chars().collect();
        for _ in 0..20_000 {
            let mut text: Vec<char> = token.chars().collect();
            for _ in 0..random.random_range(1..8) {
                let (at, letter) = (random.random_range(0..text.len()), letters[random.random_range(0..letters.len())]);
                match random.random_range(0..4) {
                    0 => text[at] = letter,
                    1 => text.insert(at, letter),
                    2 => text.truncate(at + 1),
                    _ => drop(text.remove(at).min(letter)),
                }
                if text.is_empty() {
                    text.push('.');
                }
            }
            let text: String = text.into_iter().collect();
            if let Ok(read) = Token::parse(&text) {
                assert!(read.message.len() < text.len() && read.key_id.len() <= LONGEST_KEY_ID);
            }
        }
    }
}
