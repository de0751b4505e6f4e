//! The inside of a token: whom it is for and until when (RFC 7519 section 4.1), whom it names, and what it permits.
//! <https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference>

use serde::Deserialize;
use serde_json::Value;

use super::EntraRefusal;
use super::directory::Issuer;
use crate::domain::Principal;

/// Seconds by which two clocks may differ. Microsoft's libraries give five minutes, for servers whose clocks nobody
/// sets; hosts in a cloud are exact to the second, and with five minutes a token lives on for as long after its end.
const LEEWAY: u64 = 60;
/// Most groups that Entra lists in a JWT, and most groups and most roles that are read from one.
const MOST: usize = 200;

/// What a key has vouched for. A claim that stands there twice is refused (RFC 7519 section 4).
#[derive(Deserialize)]
pub(super) struct Claims {
    iss: String,
    aud: Audience,
    exp: u64,
    nbf: Option<u64>,
    iat: Option<u64>,
    tid: Option<String>,
    oid: Option<String>,
    sub: Option<String>,
    idtyp: Option<String>,
    scp: Option<String>,
    #[serde(default)]
    roles: Value,
    #[serde(default)]
    groups: Value,
    /// Where to ask for claims that had no room, OpenID Connect Core 1.0 section 5.6.2.
    #[serde(rename = "_claim_names")]
    elsewhere: Option<Value>,
    hasgroups: Option<Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Claims {
    /// Checks from whom the token is, for whom, and that it is good at this time, in seconds since 1970.
    pub(super) fn are_for(&self, issuer: &Issuer, audiences: &[String], now: u64) -> Result<(), EntraRefusal> {
        if !issuer.issued(&self.iss, self.tid.as_deref()) {
            return Err(EntraRefusal::Issuer);
        }
        let meant = match &self.aud {
            Audience::One(one) => audiences.contains(one),
            Audience::Several(several) => several.iter().any(|one| audiences.contains(one)),
        };
        if !meant {
            return Err(EntraRefusal::Audience);
        }
        if now >= self.exp.saturating_add(LEEWAY) {
            return Err(EntraRefusal::Expired);
        }
        if [self.nbf, self.iat].into_iter().flatten().any(|from| from > now.saturating_add(LEEWAY)) {
            return Err(EntraRefusal::NotYetValid);
        }
        Ok(())
    }

    /// Who asks: the object id, which is the same for all applications of the tenant, as `sub` is not.
    pub(super) fn object(&self) -> Result<Principal, EntraRefusal> {
        let object = self.oid.as_deref().and_then(|oid| Principal::parse(oid).ok());
        // With a colon it could pass for a group or a role.
        let object = object.filter(|object| !object.as_str().contains(':'));
        object.ok_or(EntraRefusal::Malformed("it has no object id (`oid`)"))
    }

    /// Checks that a user gave one of the scopes to an application, or an administrator one of the roles.
    pub(super) fn permit(&self, scopes: &[String], app_roles: &[String]) -> Result<(), EntraRefusal> {
        let permitted = match &self.scp {
            Some(given) if self.idtyp.as_deref() != Some("app") => {
                given.split(' ').any(|scope| scopes.iter().any(|known| known == scope))
            }
            _ => self.is_of_an_application() && texts(&self.roles).any(|role| app_roles.iter().any(|r| r == role)),
        };
        if permitted { Ok(()) } else { Err(EntraRefusal::InsufficientScope) }
    }

    /// Whether this can be an application's own token. A user's ID token is for the same audience, has no scopes either
    /// and has the user's roles; in it the subject is another one for each application, and never the object.
    fn is_of_an_application(&self) -> bool {
        match self.idtyp.as_deref() {
            Some(kind) => kind == "app",
            None => self.sub.is_none() || self.sub == self.oid,
        }
    }

    /// The object and all else that rows can be permitted to: each of them once, in the token's order.
    pub(super) fn principals(&self, object: Principal) -> Vec<Principal> {
        let overage = self.hasgroups.is_some() || self.elsewhere.as_ref().is_some_and(|e| e.get("groups").is_some());
        if overage {
            tracing::debug!("the caller is in more groups than Entra lists in a token, and counts as in none");
        }
        let groups = texts(&self.groups).filter(|_| !overage).take(MOST).map(|id| format!("group:{id}"));
        let roles = texts(&self.roles).take(MOST).map(|role| format!("role:{role}"));
        let mut principals = vec![object];
        for more in groups.chain(roles).filter_map(|text| Principal::parse(&text).ok()) {
            if !principals.contains(&more) {
                principals.push(more);
            }
        }
        principals
    }
}

/// The texts of a list. Whatever else is there, and a text that is empty, is passed over.
fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::entra::directory::Directory;
    use rand::{RngExt, SeedableRng};
    use serde_json::json;

    const TENANT: &str = "8f9c1b1e-6a3a-4d0f-9d53-0e7cf5a4b1d2";
    const OBJECT: &str = "f47ac10b-58cc-4372-a567-0e02b2c3d479";
    const NOW: u64 = 1_800_000_000;

    fn token() -> Value {
        json!({
            "iss": format!("https://login.microsoftonline.com/{TENANT}/v2.0"), "tid": TENANT, "aud": "api://rowgate",
            "iat": NOW - 100, "nbf": NOW - 100, "exp": NOW + 3600, "oid": OBJECT, "sub": "pairwise", "ver": "2.0",
            "scp": "Rows.Read",
        })
    }

    fn read(change: impl FnOnce(&mut Value)) -> Option<Claims> {
        let mut token = token();
        change(&mut token);
        serde_json::from_str(&token.to_string()).ok()
    }

    fn checked(change: impl FnOnce(&mut Value)) -> Result<(), EntraRefusal> {
        let directory = Directory::parse("https://login.microsoftonline.com", TENANT).unwrap();
        let issuer = directory.issuer_named(&format!("https://login.microsoftonline.com/{TENANT}/v2.0")).unwrap();
        let audiences = ["api://rowgate".to_owned(), "6e74172b-be56-4843-9ff4-e66a39bb12e3".to_owned()];
        read(change).unwrap().are_for(&issuer, &audiences, NOW)
    }

    fn permitted(change: impl FnOnce(&mut Value)) -> bool {
        let (scopes, roles) = (["Rows.Read".to_owned(), "Rows.Write".to_owned()], ["Rows.Read.All".to_owned()]);
        match read(change).unwrap().permit(&scopes, &roles) {
            Ok(()) => true,
            Err(refusal) => {
                assert_eq!(refusal, EntraRefusal::InsufficientScope);
                false
            }
        }
    }

    #[test]
    fn whom_it_is_from_and_for() {
        assert_eq!(checked(|_| ()), Ok(()));
        assert_eq!(checked(|t| t["iss"] = json!(format!("https://sts.windows.net/{TENANT}/"))), Ok(()));
        assert_eq!(
            checked(|t| t["iss"] = json!("https://login.microsoftonline.com/common/v2.0")),
            Err(EntraRefusal::Issuer)
        );
        assert_eq!(checked(|t| t["tid"] = json!(null)), Err(EntraRefusal::Issuer));
        assert_eq!(checked(|t| t["tid"] = json!(OBJECT)), Err(EntraRefusal::Issuer));
        for aud in [json!("6e74172b-be56-4843-9ff4-e66a39bb12e3"), json!(["a", "api://rowgate"])] {
            assert_eq!(checked(|t| t["aud"] = aud), Ok(()));
        }
        for aud in [json!(""), json!("api://rowgate/"), json!("API://rowgate"), json!([]), json!(["a", "api"])] {
            assert_eq!(checked(|t| t["aud"] = aud), Err(EntraRefusal::Audience));
        }
    }

    #[test]
    fn when_it_is_good() {
        for (claim, at, outcome) in [
            ("exp", NOW + 1, Ok(())),
            ("exp", NOW - 59, Ok(())),
            ("exp", NOW - 60, Err(EntraRefusal::Expired)),
            ("exp", 0, Err(EntraRefusal::Expired)),
            ("exp", u64::MAX, Ok(())),
            ("nbf", NOW + 60, Ok(())),
            ("nbf", NOW + 61, Err(EntraRefusal::NotYetValid)),
            ("nbf", u64::MAX, Err(EntraRefusal::NotYetValid)),
            ("iat", NOW + 60, Ok(())),
            ("iat", NOW + 61, Err(EntraRefusal::NotYetValid)),
            ("iat", 0, Ok(())),
        ] {
            assert_eq!(checked(|t| t[claim] = json!(at)), outcome, "{claim} {at}");
        }
        assert_eq!(checked(|t| t["nbf"] = json!(null)), Ok(()));
        assert_eq!(checked(|t| t["iat"] = json!(null)), Ok(()));
    }

    #[test]
    fn what_is_no_token() {
        for (claim, value) in [
            ("exp", json!(null)),
            ("exp", json!("1800003600")),
            ("exp", json!(-1)),
            ("exp", json!(1e300)),
            ("nbf", json!("0")),
            ("iat", json!(-5)),
            ("iss", json!(null)),
            ("iss", json!([format!("https://login.microsoftonline.com/{TENANT}/v2.0")])),
            ("aud", json!(null)),
            ("aud", json!(7)),
            ("aud", json!(["api://rowgate", 7])),
            ("tid", json!(7)),
            ("oid", json!([OBJECT])),
            ("scp", json!(["Rows.Read"])),
        ] {
            assert!(read(|t| t[claim] = value.clone()).is_none(), "{claim} {value}");
        }
        for claim in ["exp", "iss", "aud"] {
            let mut token = token();
            token.as_object_mut().unwrap().remove(claim);
            assert!(serde_json::from_value::<Claims>(token).is_err());
        }
        let twice = token().to_string().replacen('{', r#"{"exp":1,"#, 1);
        assert!(serde_json::from_str::<Claims>(&twice).is_err());
    }

    #[test]
    fn what_it_permits() {
        for scp in ["Rows.Read", "Rows.Write", "openid Rows.Write profile"] {
            assert!(permitted(|t| t["scp"] = json!(scp)), "{scp}");
        }
        for scp in ["", " ", "Rows", "Rows.Read.All", "rows.read", "Rows.ReadRows.Write", "Rows.Read,Rows.Write"] {
            assert!(!permitted(|t| t["scp"] = json!(scp)), "{scp}");
        }
        // A user's role is no permission that the user gave to the application.
        assert!(!permitted(|t| (t["scp"], t["roles"]) = (json!("openid"), json!(["Rows.Read.All"]))));

        let application = |roles: Value, change: fn(&mut Value)| {
            permitted(|t| {
                (t["scp"], t["sub"], t["roles"]) = (json!(null), json!(OBJECT), roles);
                change(t);
            })
        };
        let role = || json!(["Other", "Rows.Read.All"]);
        assert!(application(role(), |_| ()));
        assert!(application(role(), |t| t["sub"] = json!(null)));
        assert!(application(role(), |t| (t["sub"], t["idtyp"]) = (json!("other"), json!("app"))));
        assert!(application(role(), |t| (t["idtyp"], t["scp"]) = (json!("app"), json!("Other"))));
        assert!(!application(json!(["Other"]), |t| (t["idtyp"], t["scp"]) = (json!("app"), json!("Rows.Read"))));
        // An ID token, or a user's.
        assert!(!application(role(), |t| t["sub"] = json!("pairwise")));
        assert!(!application(role(), |t| t["idtyp"] = json!("user")));
        for roles in [json!(null), json!([]), json!(["Other"]), json!("Rows.Read.All"), json!([["Rows.Read.All"]])] {
            assert!(!application(roles, |_| ()));
        }
    }

    #[test]
    fn whom_it_names() {
        let principals = |change: fn(&mut Value)| {
            let claims = read(change).unwrap();
            claims.object().map(|object| claims.principals(object).iter().map(|p| p.as_str().to_owned()).collect())
        };
        let all = |change| principals(change).unwrap_or_else(|refusal| vec![refusal.to_string()]);
        assert_eq!(all(|_| ()), [OBJECT]);
        let named = all(|t| {
            t["groups"] = json!(["g1", 7, "g.2", "g1", null, {"a": 1}, "g:3", "", "-4", "g 5", "ä", "a".repeat(123)]);
            t["roles"] = json!(["Admin", "Rows.Read.All", "Admin", ["x"], "g1"]);
        });
        assert_eq!(named, [OBJECT, "group:g1", "group:g:3", "group:-4", "role:Admin", "role:g1"]);
        assert_eq!(all(|t| (t["groups"], t["roles"]) = (json!("g1"), json!({"Admin": true}))), [OBJECT]);

        // More than a token has room for.
        for change in [
            (|t| t["_claim_names"] = json!({"groups": "src1"})) as fn(&mut Value),
            |t| t["hasgroups"] = json!(true),
            |t| (t["hasgroups"], t["groups"]) = (json!(true), json!(["g1"])),
        ] {
            assert_eq!(all(change), [OBJECT]);
        }
        assert_eq!(all(|t| (t["_claim_names"], t["groups"]) = (json!({"a": "b"}), json!(["g1"]))).len(), 2);
        let many = all(|t| {
            let list: Vec<_> = (0..201).map(|n| n.to_string()).collect();
            (t["groups"], t["roles"]) = (json!(list), json!(list));
        });
        assert_eq!((many.len(), many[200].as_str(), many[400].as_str()), (401, "group:199", "role:199"));

        for oid in [json!(null), json!(""), json!("a.b"), json!("role:Admin"), json!("-a"), json!("a".repeat(129))] {
            let refusal = read(|t| t["oid"] = oid).unwrap().object().unwrap_err();
            assert_eq!(refusal, EntraRefusal::Malformed("it has no object id (`oid`)"));
        }
    }

    /// Whatever a key has signed, an answer comes, and never a principal that is nobody's.
    #[test]
    fn nothing_makes_it_panic() {
        let mut random = rand::rngs::ChaCha8Rng::seed_from_u64(7);
        let names = ["iss", "aud", "exp", "nbf", "iat", "tid", "oid", "sub", "idtyp", "scp", "roles", "groups"];
        for _ in 0..20_000 {
            let claims = read(|t| {
                for _ in 0..random.random_range(1..4) {
                    let value = match random.random_range(0..9) {
                        0 => json!(null),
                        1 => json!(random.random::<u64>()),
                        2 => json!(random.random::<i64>()),
                        3 => json!(random.random::<f64>() * 1e20),
                        4 => json!([OBJECT, null, 1, ["a"]]),
                        5 => json!({"groups": {"a": []}}),
                        6 => json!(char::from_u32(random.random_range(0..0xD800)).map(String::from)),
                        7 => json!(["a:b", "a.b", "a", "\u{0}", "𝄞"]),
                        _ => json!(random.random::<bool>()),
                    };
                    t[names[random.random_range(0..names.len())]] = value;
                }
            });
            let Some(claims) = claims else { continue };
            let _ = claims.permit(&["a".into()], &["a".into()]);
            if let Ok(object) = claims.object() {
                let principals = claims.principals(object);
                assert!(
                    principals.iter().skip(1).all(|p| ["group:", "role:"].iter().any(|k| p.as_str().starts_with(k)))
                );
            }
        }
    }
}
