//! Easy Auth (App Service authentication): the platform has checked the sign-in and says who it was in headers that it
//! takes from every request first, so that no caller can set them. Nothing else removes them: believed only while the
//! platform says that Easy Auth is on.
//!
//! <https://learn.microsoft.com/azure/app-service/configure-authentication-user-identities>

use axum::http::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::Caller;
use crate::domain::Principal;

const PRINCIPAL: &str = "x-ms-client-principal";
const PRINCIPAL_ID: &str = "x-ms-client-principal-id";
const PROVIDER: &str = "x-ms-client-principal-idp";

/// The names that the object id, groups and roles have, in Entra's tokens and as the platform translates them.
const OBJECT_ID: [&str; 2] = ["oid", "http://schemas.microsoft.com/identity/claims/objectidentifier"];
const GROUPS: &str = "groups";
const ROLES: [&str; 2] = ["roles", "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"];

/// Most groups that are looked at: as many as Entra places in a token.
const MOST_GROUPS: usize = 200;

/// Why the platform's headers prove nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlatformRefusal {
    /// Easy Auth is off, so anybody could have sent the headers.
    #[error(
        "No caller: this server takes callers from App Service authentication, which is off. Its operator has to turn \
         it on, or set ROWGATE_IDENTITY to another way."
    )]
    Off,
    /// Nobody has signed in.
    #[error("No caller: sign in with Microsoft Entra first.")]
    NotSignedIn,
    /// Signed in with something that has no object ids.
    #[error("Callers of this server sign in with Microsoft Entra, not with another provider.")]
    OtherProvider,
    /// The headers contradict each other or can not be read.
    #[error(
        "What the platform says of the caller can not be read; the server's operator has to look at its sign-in settings."
    )]
    Unreadable,
}

/// The claims of the sign-in, in [`PRINCIPAL`].
#[derive(Deserialize)]
struct ClientPrincipal {
    #[serde(default)]
    claims: Vec<ClientClaim>,
}

#[derive(Deserialize)]
struct ClientClaim {
    typ: String,
    val: String,
}

/// The caller that the platform names.
pub(super) fn verify(headers: &HeaderMap, enabled: bool) -> Result<Caller, PlatformRefusal> {
    if !enabled {
        return Err(PlatformRefusal::Off);
    }
    let id = one(headers, PRINCIPAL_ID)?.ok_or(PlatformRefusal::NotSignedIn)?;
    if one(headers, PROVIDER)?.is_none_or(|provider| !provider.eq_ignore_ascii_case("aad")) {
        return Err(PlatformRefusal::OtherProvider);
    }
    let principal = Principal::parse(id).map_err(|_| PlatformRefusal::Unreadable)?;
    let caller = Caller::proved(principal);
    let Some(encoded) = one(headers, PRINCIPAL)? else { return Ok(caller) };
    let decoded = STANDARD.decode(encoded).map_err(|_| PlatformRefusal::Unreadable)?;
    let ClientPrincipal { claims } = serde_json::from_slice(&decoded).map_err(|_| PlatformRefusal::Unreadable)?;
    if claims.iter().any(|claim| OBJECT_ID.contains(&claim.typ.as_str()) && claim.val != id) {
        return Err(PlatformRefusal::Unreadable);
    }
    let groups = claims.iter().filter(|claim| claim.typ == GROUPS).take(MOST_GROUPS).map(|claim| ("group", &claim.val));
    let roles = claims.iter().filter(|claim| ROLES.contains(&claim.typ.as_str())).map(|claim| ("role", &claim.val));
    let also = groups.chain(roles).filter_map(|(kind, value)| Principal::parse(&format!("{kind}:{value}")).ok());
    Ok(caller.also(also.collect()))
}

/// A header that is there once at most.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, PlatformRefusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(|text| Some(text.trim())).map_err(|_| PlatformRefusal::Unreadable),
        (Some(_), Some(_)) => Err(PlatformRefusal::Unreadable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};
    use serde_json::json;

    const ID: &str = "5d3bc1f0-0000-4000-8000-aa4411ee7700";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_str(v).unwrap())).collect()
    }

    fn encoded(claims: serde_json::Value) -> String {
        STANDARD.encode(json!({ "auth_typ": "aad", "claims": claims, "name_typ": "n", "role_typ": "r" }).to_string())
    }

    #[test]
    fn the_platforms_word_is_taken_while_easy_auth_is_on() {
        let claims = json!([
            { "typ": OBJECT_ID[1], "val": ID }, { "typ": "groups", "val": "g-1" }, { "typ": "roles", "val": "Sales.Read" },
            { "typ": "roles", "val": "Reader" }, { "typ": "name", "val": "Ada" }
        ]);
        let sent = headers(&[(PRINCIPAL_ID, ID), (PROVIDER, "aad"), (PRINCIPAL, &encoded(claims))]);
        let caller = verify(&sent, true).unwrap();
        let principals: Vec<_> = caller.principals().map(Principal::as_str).collect();
        // A role whose name has a dot is no principal: a claim could not hold it.
        assert_eq!(principals, [ID, "group:g-1", "role:Reader"]);
        assert_eq!(verify(&sent, false).unwrap_err(), PlatformRefusal::Off);
        assert!(verify(&headers(&[(PRINCIPAL_ID, ID), (PROVIDER, "aad")]), true).is_ok());
    }

    #[test]
    fn what_does_not_fit_together_proves_nobody() {
        let refused = |pairs: &[(&'static str, &str)]| verify(&headers(pairs), true).unwrap_err();
        let id = (PRINCIPAL_ID, ID);
        let aad = (PROVIDER, "aad");
        assert_eq!(refused(&[]), PlatformRefusal::NotSignedIn);
        assert_eq!(refused(&[aad, (PRINCIPAL, &encoded(json!([])))]), PlatformRefusal::NotSignedIn);
        assert_eq!(refused(&[id]), PlatformRefusal::OtherProvider);
        assert_eq!(refused(&[id, (PROVIDER, "google")]), PlatformRefusal::OtherProvider);
        let other = encoded(json!([{ "typ": "oid", "val": "somebody-else" }]));
        for principal in [other.as_str(), "not base64!", &STANDARD.encode("not json"), &STANDARD.encode("[1]")] {
            assert_eq!(refused(&[id, aad, (PRINCIPAL, principal)]), PlatformRefusal::Unreadable);
        }
        assert_eq!(refused(&[(PRINCIPAL_ID, "a.b"), aad]), PlatformRefusal::Unreadable);
        let mut twice = headers(&[id, aad]);
        twice.append(PRINCIPAL_ID, HeaderValue::from_static("f47ac10b"));
        assert_eq!(verify(&twice, true).unwrap_err(), PlatformRefusal::Unreadable);
    }
}
