//! The settings, and what they ask of Azure: how callers are proved, as whom this program asks, the keys of claims.

use super::{Check, Mark, chain};
use crate::app::{self, Azure, AzureError};
use crate::config::{ConfigError, GivenSettings, Settings, SignInChoice};
use crate::domain::Profile;

const NAME: &str = "settings";

/// The settings and the profile with what is said of them, or what is wrong with them.
pub(super) fn read(
    settings: Result<Settings, ConfigError>,
    shipped: &str,
) -> Result<(Settings, Profile, Check), Check> {
    let failed = |seen: String, run: &str| Check::new(NAME, Mark::Failed, seen).run(run);
    let settings = settings.map_err(|error| {
        failed(error.problems().join("; "), "set them right: the README's table of settings says what each may be")
    })?;
    let profile = app::profile(&settings, shipped)
        .map_err(|error| failed(chain(&error), "look at the file that ROWGATE_PROFILE names"))?;
    let check = Check::new(NAME, Mark::Ok, told(&settings.given));
    Ok((settings, profile, check))
}

/// Names alone: what is set may be a secret.
fn told(given: &GivenSettings) -> String {
    match (given.count, given.changed.as_slice()) {
        (count, []) => format!("{count} set, none of them to another value than its default"),
        (count, changed) => {
            format!("{count} set, {} of them to another value than the default: {}", changed.len(), changed.join(", "))
        }
    }
}

/// How callers are proved.
pub(super) fn callers(settings: &Settings) -> Check {
    let name = "callers";
    let issued = if settings.identity.issued_tokens { ", and issued tokens" } else { "" };
    match settings.identity.sign_in {
        Some(SignInChoice::TrustedHeader) => Check::new(
            name,
            Mark::Warning,
            format!("whoever reaches this server can ask as anybody: trusted-header{issued}"),
        )
        .run("ROWGATE_IDENTITY=easy-auth on Azure, entra elsewhere"),
        Some(SignInChoice::EasyAuth) if !settings.identity.easy_auth_on => Check::new(
            name,
            Mark::Failed,
            "easy-auth, but WEBSITE_AUTH_ENABLED does not say that it is on: nobody is let in",
        )
        .run("turn on App Service authentication, or set ROWGATE_IDENTITY to another way"),
        Some(SignInChoice::EasyAuth) => Check::new(name, Mark::Ok, format!("App Service authentication{issued}")),
        Some(SignInChoice::Entra)
            if settings.identity.entra.tenant.is_none() || settings.identity.entra.audiences.is_empty() =>
        {
            Check::new(name, Mark::Failed, "entra, without a tenant or an audience")
                .run("set ROWGATE_ENTRA_TENANT and ROWGATE_ENTRA_AUDIENCE")
        }
        Some(SignInChoice::Entra) => Check::new(name, Mark::Ok, format!("Entra's tokens, checked here{issued}")),
        None if settings.identity.issued_tokens => Check::new(name, Mark::Ok, "issued tokens"),
        None => Check::new(name, Mark::Failed, "ROWGATE_IDENTITY is not set: nobody can be proved")
            .run("ROWGATE_IDENTITY=easy-auth on Azure, entra elsewhere, trusted-header for development"),
    }
}

/// Whether this program is given tokens for what it asks as its managed identity.
pub(super) async fn managed_identity(settings: &Settings, azure: &Azure) -> Check {
    let name = "managed identity";
    match azure.check_identity(settings).await {
        None => Check::new(name, Mark::Skipped, "nothing is asked as one"),
        Some(Ok(services)) => Check::new(name, Mark::Ok, format!("has tokens for {}", services.join(" and "))),
        Some(Err(error)) => Check::new(name, Mark::Failed, chain(&error))
            .run("assign the identity to the app, and set ROWGATE_MANAGED_IDENTITY_CLIENT_ID to its client id"),
    }
}

/// The keys that sign claims, from the settings or the vault.
pub(super) async fn keys(settings: &Settings, azure: &Azure) -> Check {
    let name = "claim keys";
    match azure.check_keys(settings).await {
        Ok(ids) => {
            Check::new(name, Mark::Ok, format!("{} of them, {} signs", ids.len(), ids.first().map_or("", |id| id)))
        }
        Err(error) => {
            let run = match &error {
                AzureError::Keys(unavailable) if chain(unavailable).contains("may not read") => {
                    "give the identity the role Key Vault Secrets User on the vault; it can take minutes to be known"
                }
                AzureError::Keys(unavailable) if chain(unavailable).contains("a signing key") => {
                    "the secret has to hold `<id>:<base64 of 32 bytes>`, several separated by commas"
                }
                AzureError::Keys(_) => {
                    "look at ROWGATE_KEY_VAULT and ROWGATE_CLAIM_KEYS_SECRET, and at the vault's firewall"
                }
                AzureError::Settings(_) => "set ROWGATE_CLAIM_KEYS, or ROWGATE_KEY_VAULT and ROWGATE_CLAIM_KEYS_SECRET",
            };
            Check::new(name, Mark::Failed, chain(&error)).run(run)
        }
    }
}
