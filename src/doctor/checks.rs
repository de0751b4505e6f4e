//! The checks, in the order in which one rests on another. A check that can not be made because of one before it is
//! skipped, so that the first failure is the one to mend.

use std::error::Error as StdError;
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue};

use super::{Check, Mark};
use crate::app::{self, Azure, AzureError};
use crate::config::{EmbedderChoice, Settings, SignInChoice};
use crate::db::{Db, DbError, Examined};
use crate::domain::{Principal, Profile, RowLimit};
use crate::embedding::Embedder;
use crate::identity::{Caller, DEVELOPMENT_HEADER, Verifier};

/// How far two clocks may be apart before tokens come to an early end, or are good for too long.
const SKEW_SECONDS: f64 = 30.0;
/// How few connections are too few.
const FEW_CONNECTIONS: i64 = 5;

pub(super) async fn all(settings: &Settings, profile: &Profile, principal: Option<&Principal>) -> Vec<Check> {
    let azure = Azure::new(settings);
    let mut checks = vec![identity(settings), managed_identity(settings, &azure).await];
    checks.push(keys(settings, &azure).await);
    let database = match app::database(settings, profile, &azure) {
        Ok(database) => database,
        Err(error) => {
            checks.push(Check::new("database", Mark::Failed, chain(&error)).run("set what is missing and try again"));
            return checks;
        }
    };
    let examined = database.examine().await;
    let reached = examined.is_ok();
    checks.extend(server(settings, &examined));
    if !reached {
        return checks;
    }
    checks.push(posture(&database).await);
    let caller = principal.and_then(of_principal);
    checks.extend(claim(&database, caller.as_ref()).await);
    checks.extend(search(settings, profile, &azure, &database, caller.as_ref()).await);
    checks
}

/// An error with all that caused it. Our own errors hold no secrets.
fn chain(error: &dyn StdError) -> String {
    let mut told = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !told.ends_with(&text) {
            told = format!("{told}: {text}");
        }
        source = cause.source();
    }
    told
}

fn identity(settings: &Settings) -> Check {
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

async fn managed_identity(settings: &Settings, azure: &Azure) -> Check {
    let name = "managed identity";
    match azure.check_identity(settings).await {
        None => Check::new(name, Mark::Skipped, "nothing is asked as one"),
        Some(Ok(services)) => Check::new(name, Mark::Ok, format!("has tokens for {}", services.join(" and "))),
        Some(Err(error)) => Check::new(name, Mark::Failed, chain(&error))
            .run("assign the identity to the app, and set ROWGATE_MANAGED_IDENTITY_CLIENT_ID to its client id"),
    }
}

async fn keys(settings: &Settings, azure: &Azure) -> Check {
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

fn server(settings: &Settings, examined: &Result<Examined, DbError>) -> Vec<Check> {
    let examined = match examined {
        Ok(examined) => examined,
        Err(error) => {
            let check = Check::new("database", Mark::Failed, chain(error));
            return vec![check.run(error.advice())];
        }
    };
    let Examined { version, latency, connections, most_connections, ahead_seconds, vector, tls } = examined;
    let wire = if *tls { "TLS, verified" } else { "no TLS" };
    let mut checks = vec![Check::new(
        "database",
        Mark::Ok,
        format!("PostgreSQL {version}, {wire}, {:.1} ms a round trip", latency.as_secs_f64() * 1e3),
    )];
    let left = most_connections - connections;
    let seen = format!("{left} of {most_connections} are free; this server's pool has {}", settings.database.pool_size);
    checks.push(if left < FEW_CONNECTIONS {
        Check::new("connections", Mark::Warning, seen)
            .run("lower ROWGATE_POOL_SIZE or the number of instances, or put PgBouncer in front")
    } else {
        Check::new("connections", Mark::Ok, seen)
    });
    checks.push(if ahead_seconds.abs() > SKEW_SECONDS {
        Check::new("clocks", Mark::Failed, format!("the database's clock is {ahead_seconds:+.0} s from this machine's"))
            .run("set both clocks by NTP: tokens begin and end by them")
    } else {
        Check::new("clocks", Mark::Ok, format!("{:.1} s apart", ahead_seconds.abs()))
    });
    checks.push(match vector {
        Some(version) => Check::new("pgvector", Mark::Ok, version.clone()),
        None => Check::new("pgvector", Mark::Warning, "not in this database, so there is no search by meaning")
            .run("as an administrator: create extension vector"),
    });
    checks
}

async fn posture(database: &Db) -> Check {
    let name = "row-level security";
    match database.check_ready().await {
        Ok(()) => Check::new(name, Mark::Ok, "roles, tables, policies and functions are as they were migrated"),
        Err(DbError::Unsafe(problems)) => {
            let what: Vec<_> = problems.iter().map(|problem| problem.what.as_str()).collect();
            let mend: Vec<_> = problems.iter().map(|problem| problem.mend.as_str()).collect();
            Check::new(name, Mark::Failed, what.join("; ")).run(mend.join("; "))
        }
        Err(error) => Check::new(name, Mark::Failed, chain(&error)).run(error.advice()),
    }
}

fn of_principal(principal: &Principal) -> Option<Caller> {
    let mut headers = HeaderMap::new();
    headers.insert(DEVELOPMENT_HEADER, HeaderValue::from_str(principal.as_str()).ok()?);
    let verifier = Verifier::trusted_header();
    futures_util::FutureExt::now_or_never(verifier.verify(&headers))?.ok()
}

/// Whether the database takes a claim, and what the caller sees.
async fn claim(database: &Db, caller: Option<&Caller>) -> Vec<Check> {
    let name = "claim";
    let Some(caller) = caller else {
        return vec![Check::new(name, Mark::Skipped, "no caller was named").run("rowgate doctor --as <principal>")];
    };
    if let Err(error) = database.query(caller, "select 1", RowLimit::DEFAULT).await {
        return vec![Check::new(name, Mark::Failed, chain(&error)).run(error.advice())];
    }
    let mut checks = vec![Check::new(name, Mark::Ok, format!("{} is let in", caller.principal().as_str()))];
    match database.visible(caller).await {
        Ok(tables) => {
            let seen: Vec<_> = tables.iter().map(|(table, rows)| format!("{table} {rows}")).collect();
            let any = tables.iter().any(|(_, rows)| rows != "0");
            let check = Check::new("visible rows", if any { Mark::Ok } else { Mark::Warning }, seen.join(", "));
            checks.push(if any { check } else { check.run("rowgate principal add … --store <id>, or load data") });
        }
        Err(error) => checks.push(Check::new("visible rows", Mark::Failed, chain(&error)).run(error.advice())),
    }
    checks
}

async fn search(
    settings: &Settings,
    profile: &Profile,
    azure: &Azure,
    database: &Db,
    caller: Option<&Caller>,
) -> Vec<Check> {
    let name = "embeddings";
    if matches!(settings.embedding.embedder, None | Some(EmbedderChoice::None)) {
        return vec![Check::new(name, Mark::Skipped, "ROWGATE_EMBEDDER is not set")];
    }
    let embedder: Arc<dyn Embedder> = match app::embedder(settings, profile, azure) {
        Ok(Some(embedder)) => embedder,
        Ok(None) => return vec![Check::new(name, Mark::Skipped, "there is none")],
        Err(error) => {
            return vec![
                Check::new(name, Mark::Failed, chain(&error)).run("look at ROWGATE_EMBEDDER and what it needs"),
            ];
        }
    };
    let model = embedder.model().clone();
    let mut checks = vec![match embedder.embed(&["a pipe".to_owned()]).await {
        Ok(embedded) => {
            let dimensions = embedded.vectors.first().map_or(0, Vec::len);
            let seen = format!("{}, {dimensions} dimensions", model.name);
            if dimensions == model.dimensions {
                Check::new(name, Mark::Ok, seen)
            } else {
                Check::new(name, Mark::Failed, seen)
                    .run("the profile's [[search.models]] has to say the same dimensions")
            }
        }
        Err(error) => Check::new(name, Mark::Failed, chain(&error))
            .run("look at the endpoint, the deployment and the role Cognitive Services OpenAI User"),
    }];
    let (Some(source), Some(caller)) = (&profile.search, caller) else {
        checks.push(Check::new("vectors", Mark::Skipped, "no caller was named").run("rowgate doctor --as <principal>"));
        return checks;
    };
    checks.push(match database.search_models(caller, source).await {
        Ok(models) => match models.iter().find(|(known, _)| *known == model.name) {
            Some((_, rows)) => Check::new("vectors", Mark::Ok, format!("{rows} of {}", model.name)),
            None => Check::new("vectors", Mark::Failed, format!("none of {}", model.name)).run("rowgate embed"),
        },
        Err(error) => Check::new("vectors", Mark::Failed, chain(&error)).run(error.advice()),
    });
    checks
}
