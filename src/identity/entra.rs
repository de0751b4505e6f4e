//! Callers with an access token of Microsoft Entra: is it from this tenant, for this server, good now, and does it
//! permit anything here? The one place of this room that uses the network, and only for Entra's public keys.
//!
//! <https://learn.microsoft.com/entra/identity-platform/access-tokens>,
//! <https://learn.microsoft.com/entra/identity-platform/claims-validation>

mod claims;
mod directory;
#[cfg(feature = "fuzzing")]
pub(super) mod fuzzing;
mod key_set;
mod refusal;
mod signing_keys;
mod token;

use std::time::{SystemTime, UNIX_EPOCH};

use self::directory::Directory;
use self::signing_keys::SigningKeys;
use self::token::Token;
use crate::domain::Principal;

pub use self::refusal::{EntraRefusal, EntraSettingsError};

/// Whose tokens to take, and for what.
#[derive(Clone, Debug)]
pub struct EntraSettings {
    /// `https://login.microsoftonline.com`, or another cloud's. Plain HTTP is for this machine only.
    pub authority: String,
    /// The tenant's id, or one of its verified domains. Not `common`: that would be everybody's tenant.
    pub tenant: String,
    /// What a token may be for: this server's client id (v2.0 tokens) and its application id URI (v1.0 tokens).
    pub audiences: Vec<String>,
    /// The scopes, as they stand in `scp`, of which a user's token needs one.
    pub scopes: Vec<String>,
    /// The application roles, as they stand in `roles`, of which a token of an application's own needs one.
    pub app_roles: Vec<String>,
}

/// Proves by a bearer token who asks.
#[derive(Debug)]
pub struct EntraVerifier {
    keys: SigningKeys,
    audiences: Vec<String>,
    scopes: Vec<String>,
    app_roles: Vec<String>,
}

impl EntraVerifier {
    /// Reads and connects to nothing yet: the keys come with the first token. Fails on settings that can not work.
    pub fn new(settings: EntraSettings) -> Result<Self, EntraSettingsError> {
        let EntraSettings { authority, tenant, audiences, scopes, app_roles } = settings;
        let directory = Directory::parse(&authority, &tenant)?;
        let words = |list: &[String]| list.iter().all(|text| !text.is_empty() && !text.contains(char::is_whitespace));
        if audiences.is_empty() || !words(&audiences) {
            return Err(EntraSettingsError::Audiences);
        }
        if scopes.is_empty() && app_roles.is_empty() || !words(&scopes) || !words(&app_roles) {
            return Err(EntraSettingsError::Permissions);
        }
        Ok(Self { keys: SigningKeys::new(directory), audiences, scopes, app_roles })
    }

    /// Who sent this token (RFC 6750, without the word `Bearer`): the object id first, then `group:<id>` and
    /// `role:<value>` for those of the token's groups and roles that can be a [`Principal`]. A role with a dot can not.
    ///
    /// An object that is in more than 200 groups has none here: Entra then leaves them out of the token, and they are
    /// not asked for elsewhere.
    pub async fn verify(&self, bearer: &str) -> Result<Vec<Principal>, EntraRefusal> {
        let token = Token::parse(bearer)?;
        let key = self.keys.find(token.key_id()).await?;
        let claims = token.claims(&key)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        claims.are_for(key.issuer(), &self.audiences, now)?;
        let object = claims.object()?;
        claims.permit(&self.scopes, &self.app_roles)?;
        Ok(claims.principals(object))
    }

    /// The scopes of which a user's token needs one: what a client is told to ask for.
    pub fn scopes(&self) -> &[String] {
        &self.scopes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> EntraSettings {
        EntraSettings {
            authority: "https://login.microsoftonline.com".into(),
            tenant: "8f9c1b1e-6a3a-4d0f-9d53-0e7cf5a4b1d2".into(),
            audiences: vec!["api://rowgate".into()],
            scopes: vec!["Rows.Read".into()],
            app_roles: vec!["Rows.Read.All".into()],
        }
    }

    #[test]
    fn settings_that_can_not_work() {
        let made = |change: fn(&mut EntraSettings)| {
            let mut settings = settings();
            change(&mut settings);
            EntraVerifier::new(settings).map(|verifier| verifier.scopes().to_vec())
        };
        assert_eq!(made(|_| ()).unwrap(), ["Rows.Read"]);
        assert!(made(|s| s.scopes.clear()).is_ok());
        assert!(made(|s| s.app_roles.clear()).is_ok());
        for change in [
            (|s| s.audiences.clear()) as fn(&mut EntraSettings),
            |s| s.audiences.push(String::new()),
            |s| s.audiences.push("a b".into()),
        ] {
            assert_eq!(made(change), Err(EntraSettingsError::Audiences));
        }
        for change in [
            (|s| {
                s.scopes.clear();
                s.app_roles.clear();
            }) as fn(&mut EntraSettings),
            |s| s.scopes.push(String::new()),
            |s| s.scopes.push("Rows.Read Rows.Write".into()),
            |s| s.app_roles.push(String::new()),
        ] {
            assert_eq!(made(change), Err(EntraSettingsError::Permissions));
        }
    }
}
