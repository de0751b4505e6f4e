//! How callers are proved, and the keys that sign what is said of them.

use super::reader::Reader;
use crate::identity::SigningKeys;

/// How callers are proved.
#[derive(Clone, Debug)]
pub struct IdentitySettings {
    /// How people and programs sign in, if they do.
    pub sign_in: Option<SignInChoice>,
    /// Whether issued tokens are taken.
    pub issued_tokens: bool,
    /// Whether the platform says that its Easy Auth is on.
    pub easy_auth_on: bool,
    /// Whose tokens are taken, if Entra's are checked here.
    pub entra: EntraChoice,
    /// Where clients reach this server, `https://host`, if that is set.
    pub public_url: Option<String>,
}

/// How people and programs sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignInChoice {
    /// A header is believed.
    TrustedHeader,
    /// App Service authentication.
    EasyAuth,
    /// Entra's access tokens, checked here.
    Entra,
}

/// Whose access tokens are taken, and for what.
#[derive(Clone, Debug)]
pub struct EntraChoice {
    /// Where Entra is.
    pub authority: String,
    /// The tenant.
    pub tenant: Option<String>,
    /// What a token may be for.
    pub audiences: Vec<String>,
    /// Scopes, of which a user's token needs one.
    pub scopes: Vec<String>,
    /// Application roles, of which an application's token needs one.
    pub app_roles: Vec<String>,
}

/// Where signing keys are: given here, or in the vault under a name.
#[derive(Clone, Debug)]
pub struct KeySettings {
    /// The keys themselves.
    pub given: Option<SigningKeys>,
    /// The name of the secret that holds them.
    pub secret: String,
}

impl IdentitySettings {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let (sign_in, issued_tokens) = reader.parsed("ROWGATE_IDENTITY", (None, false), ways);
        let entra = EntraChoice {
            authority: reader
                .text("ROWGATE_ENTRA_AUTHORITY")
                .unwrap_or_else(|| "https://login.microsoftonline.com".to_owned()),
            tenant: reader.text("ROWGATE_ENTRA_TENANT"),
            audiences: reader.list("ROWGATE_ENTRA_AUDIENCE"),
            scopes: Some(reader.list("ROWGATE_ENTRA_SCOPES"))
                .filter(|scopes| !scopes.is_empty())
                .unwrap_or_else(|| vec!["user_impersonation".to_owned()]),
            app_roles: reader.list("ROWGATE_ENTRA_APP_ROLES"),
        };
        let hostname = reader.text("WEBSITE_HOSTNAME").map(|name| format!("https://{name}"));
        if sign_in == Some(SignInChoice::TrustedHeader) && hostname.is_some() {
            reader
                .problem("ROWGATE_IDENTITY: trusted-header is for development; on Azure anybody could ask as anybody");
        }
        let public_url = reader.parsed("ROWGATE_PUBLIC_URL", None, |text| {
            let url = text.trim_end_matches('/');
            let host = url.strip_prefix("https://").or(url.strip_prefix("http://"));
            match host {
                Some(host) if !host.is_empty() && !host.contains('/') => Ok(Some(url.to_owned())),
                _ => Err("not an address such as `https://rowgate.example.com`, without a path".to_owned()),
            }
        });
        Self {
            sign_in,
            issued_tokens,
            easy_auth_on: reader.text("WEBSITE_AUTH_ENABLED").is_some_and(|on| on.eq_ignore_ascii_case("true")),
            entra,
            public_url: public_url.or(hostname),
        }
    }
}

impl KeySettings {
    pub(super) fn read(reader: &mut Reader, keys: &str, secret: &str, named: &str) -> Self {
        let given = reader.parsed(keys, None, |text| SigningKeys::parse(text).map(Some).map_err(|e| e.to_string()));
        Self { given, secret: reader.text(secret).unwrap_or_else(|| named.to_owned()) }
    }
}

/// One way to sign in at most, and issued tokens or not.
fn ways(text: &str) -> Result<(Option<SignInChoice>, bool), String> {
    let (mut sign_in, mut issued) = (None, false);
    for way in text.split(',').map(str::trim) {
        let choice = match way {
            "trusted-header" => SignInChoice::TrustedHeader,
            "easy-auth" => SignInChoice::EasyAuth,
            "entra" => SignInChoice::Entra,
            "issued-token" => {
                issued = true;
                continue;
            }
            _ => {
                return Err("not a way to prove a caller; there are `easy-auth`, `entra`, `trusted-header`, and \
                            `issued-token`, alone or after one of them"
                    .to_owned());
            }
        };
        if sign_in.replace(choice).is_some() {
            return Err("callers sign in one way; besides it there may be `issued-token`".to_owned());
        }
    }
    Ok((sign_in, issued))
}
