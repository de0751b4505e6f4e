//! What the fuzz targets in `fuzz/` reach of Entra's tokens without a network: they bring the set of keys, and the claims.

use std::sync::Arc;

use super::claims::Claims;
use super::directory::{Directory, Issuer};
use super::key_set;
use super::token::Token;

const TENANT: &str = "8f9c1b1e-6a3a-4d0f-9d53-0e7cf5a4b1d2";

fn issuer() -> Option<Issuer> {
    let directory = Directory::parse("https://login.microsoftonline.com", TENANT).ok()?;
    directory.issuer_named(&format!("https://login.microsoftonline.com/{TENANT}/v2.0"))
}

/// Whether any key of this set has signed this token.
pub fn believed(keys: &[u8], bearer: &str) -> bool {
    let Some(keys) = issuer().and_then(|issuer| key_set::read(keys, &Arc::new(issuer))) else { return false };
    // Whichever key it names, all are tried.
    Token::parse(bearer).is_ok_and(|token| keys.values().any(|key| token.claims(key).is_ok()))
}

/// Whom these claims name at a time in seconds since 1970, as if a key had vouched for them.
pub fn principals(claims: &[u8], now: u64) -> Option<Vec<String>> {
    let claims: Claims = serde_json::from_slice(claims).ok()?;
    claims.are_for(&issuer()?, &["api://rowgate".to_owned()], now).ok()?;
    let object = claims.object().ok()?;
    claims.permit(&["Rows.Read".to_owned()], &["Rows.Read.All".to_owned()]).ok()?;
    Some(claims.principals(object).iter().map(|principal| principal.as_str().to_owned()).collect())
}
