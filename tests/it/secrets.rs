//! Secrets of Key Vault over its real wire format: fetched once, renewed while they are in use, and what a call is told
//! while they can not be had.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use azure_core::http::Transport;
use futures_util::future::join_all;
use rowgate::app::{self, App, Azure};
use rowgate::config::Settings;
use rowgate::embedding::Embedder;
use rowgate::identity::SigningKey;
use rowgate::retail;
use rowgate::secrets::{KeyVault, ManagedIdentity, SecretError};
use rowgate::telemetry::Telemetry;
use serde_json::json;

use crate::support::azure::{IdentityFault, LoopbackAzure, OPENAI_HOST, VAULT_HOST, VaultFault};
use crate::support::{SEATTLE, TestDatabase, TestServer, cluster};

const NAME: &str = "rowgate-claim-keys";

fn identity(azure: &LoopbackAzure) -> Arc<ManagedIdentity> {
    let credential = azure.credential();
    Arc::new(ManagedIdentity::by(move || Ok(credential.clone())))
}

fn vault(azure: &LoopbackAzure) -> KeyVault {
    let url = format!("https://{VAULT_HOST}");
    KeyVault::new(&url, identity(azure)).with_transport(Transport::new(Arc::new(azure.http_client())))
}

/// Until something holds, for what goes on in the background.
async fn until(mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..1_000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came");
}

#[tokio::test]
async fn a_secret_is_fetched_once_by_all_who_need_it() {
    let azure = LoopbackAzure::start().await;
    azure.key_vault.set(NAME, "first");
    azure.key_vault.set("another", "other");
    let vault = Arc::new(vault(&azure));
    let got = join_all((0..50).map(|n| {
        let vault = &vault;
        async move { vault.secret(if n % 2 == 0 { NAME } else { "another" }).await.unwrap() }
    }))
    .await;
    assert!(got.iter().step_by(2).all(|value| value.expose() == "first"));
    assert!(got.iter().skip(1).step_by(2).all(|value| value.expose() == "other"));
    assert_eq!((azure.key_vault.reads(NAME), azure.key_vault.reads("another")), (1, 1));
    assert_eq!(format!("{:?}", got[0]), "SecretValue(…)");
}

#[tokio::test]
async fn a_rotated_secret_is_picked_up_while_the_old_one_serves() {
    let azure = LoopbackAzure::start().await;
    azure.key_vault.set(NAME, "first");
    let vault = Arc::new(vault(&azure).renewed_after(Duration::ZERO));
    assert_eq!(vault.secret(NAME).await.unwrap().expose(), "first");
    azure.key_vault.set(NAME, "second");
    // Nobody waits for the renewal.
    until(async || vault.secret(NAME).await.unwrap().expose() == "second").await;

    // A vault that fails later on fails nobody.
    azure.key_vault.faults.always(VaultFault::Failing);
    for _ in 0..20 {
        assert_eq!(vault.secret(NAME).await.unwrap().expose(), "second");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    azure.key_vault.faults.end();
    azure.key_vault.set(NAME, "third");
    until(async || vault.secret(NAME).await.unwrap().expose() == "third").await;
}

#[tokio::test]
async fn what_was_refused_is_asked_for_again_but_not_in_a_row() {
    let azure = LoopbackAzure::start().await;
    azure.key_vault.set(NAME, "first");
    let vault = Arc::new(vault(&azure));
    vault.secret(NAME).await.unwrap();
    azure.key_vault.set(NAME, "second");
    for _ in 0..100 {
        vault.refused(NAME);
        vault.secret(NAME).await.unwrap();
    }
    assert_eq!(azure.key_vault.reads(NAME), 1);
    until(async || {
        vault.refused(NAME);
        vault.secret(NAME).await.unwrap().expose() == "second"
    })
    .await;
    assert_eq!(azure.key_vault.reads(NAME), 2);
}

#[tokio::test]
async fn each_failure_says_what_to_mend_and_when_to_come_back() {
    let azure = LoopbackAzure::start().await;
    azure.key_vault.set(NAME, "the secret");
    azure.key_vault.set("disabled", "the secret");
    azure.key_vault.disable("disabled");
    let failure = async |name: &str| {
        let unavailable = Arc::new(vault(&azure)).secret(name).await.unwrap_err();
        let source = unavailable.source.source().map(ToString::to_string).unwrap_or_default();
        assert!(!format!("{unavailable:?}").contains("the secret\""));
        (unavailable.source.to_string(), source, unavailable.retry_after.as_millis())
    };

    let (told, source, again) = failure("nothing").await;
    assert_eq!(
        (told.as_str(), again),
        ("the vault has no secret nothing: make it, or set its name right", 5_000),
        "{source}"
    );
    let (told, source, _) = failure("disabled").await;
    assert!(told.contains("may not read the secret disabled") && source.contains("403 SecretDisabled"), "{source}");

    azure.key_vault.faults.always(VaultFault::Forbidden);
    let (told, source, again) = failure(NAME).await;
    assert!(told.contains("give it the role Key Vault Secrets User"), "{told}");
    assert_eq!((source.as_str(), again), ("the vault answered 403 ForbiddenByRbac", 5_000));

    azure.key_vault.faults.always(VaultFault::Throttled(17));
    assert_eq!(failure(NAME).await, ("the vault is asked too often".to_owned(), String::new(), 17_000));

    azure.key_vault.faults.always(VaultFault::Failing);
    let (told, source, again) = failure(NAME).await;
    assert!(told.contains("did not give the secret") && source.contains("500"), "{told} {source}");
    assert_eq!(again, 500);
    // A failure that passes is nobody's concern.
    azure.key_vault.faults.end();
    azure.key_vault.faults.times(2, VaultFault::Failing);
    assert_eq!(Arc::new(vault(&azure)).secret(NAME).await.unwrap().expose(), "the secret");

    azure.key_vault.faults.always(VaultFault::Hangs);
    let (told, ..) = failure(NAME).await;
    assert!(told.contains("took longer than 2.5s"), "{told}");
    azure.key_vault.faults.end();

    azure.identity.faults.always(IdentityFault::NotFound);
    let (told, source, _) = failure(NAME).await;
    assert_eq!(told, "the managed identity gives no token", "{source}");
    azure.identity.faults.end();

    // A challenge that would send the token's resource elsewhere is not answered.
    azure.key_vault.challenge_for("https://vault.example.net");
    let unavailable = Arc::new(vault(&azure)).secret(NAME).await.unwrap_err();
    assert!(!matches!(*unavailable.source, SecretError::Forbidden(..)), "{unavailable:?}");
    assert_eq!(azure.identity.issued("https://vault.example.net"), Vec::<String>::new());
}

#[tokio::test]
async fn a_vault_that_fails_is_asked_seldom_and_recovered_from() {
    let azure = LoopbackAzure::start().await;
    azure.key_vault.set(NAME, "first");
    azure.key_vault.faults.always(VaultFault::Throttled(1));
    let vault = Arc::new(vault(&azure));
    let before = azure.key_vault.requests.all().len();
    for _ in 0..50 {
        assert!(vault.secret(NAME).await.is_err());
    }
    assert!(azure.key_vault.requests.all().len() - before <= 4, "{:?}", azure.key_vault.requests.all());
    azure.key_vault.faults.end();
    until(async || vault.secret(NAME).await.is_ok()).await;
}

#[tokio::test]
async fn a_vault_that_fails_or_hangs_is_asked_twice_a_second_at_most() {
    for fault in [VaultFault::Failing, VaultFault::Hangs] {
        let azure = LoopbackAzure::start().await;
        azure.key_vault.set(NAME, "first");
        let vault = Arc::new(vault(&azure));
        // The token comes first; it is not what is counted here.
        assert!(vault.secret("nothing").await.is_err());
        azure.key_vault.faults.always(fault);
        let began = Instant::now();
        let asking = tokio::spawn({
            let vault = Arc::clone(&vault);
            async move {
                while vault.secret(NAME).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        });
        tokio::time::sleep(Duration::from_millis(1_800)).await;
        let asked = azure.key_vault.requests.to(&format!("/secrets/{NAME}"));
        let most = began.elapsed().as_millis() as usize / 500 + 1;
        assert!((2..=most).contains(&asked), "{asked} requests, {most} at most, {fault:?}");
        // Those that wait for a vault that hung get what it says when it is asked once more.
        azure.key_vault.faults.end();
        asking.await.unwrap();
        assert!(azure.key_vault.reads(NAME) >= 1);
    }
}

/// A whole server that has its keys from the vault.
async fn server(azure: &LoopbackAzure, database: TestDatabase, more: &[(&str, &str)]) -> TestServer {
    let url = format!("https://{VAULT_HOST}");
    let mut settings: Settings = database.settings(&[&[("ROWGATE_KEY_VAULT", url.as_str())], more].concat());
    settings.claim_keys.given = None;
    let profile = app::profile(&settings, retail::PROFILE).unwrap();
    let on_azure = Azure::of(identity(azure), Some(vault(azure).renewed_after(Duration::ZERO)));
    let app = App::build(
        settings,
        profile,
        Some(cluster().embedder.clone() as Arc<dyn Embedder>),
        &on_azure,
        &Telemetry::default(),
    )
    .unwrap();
    TestServer::run(database, app).await
}

#[tokio::test]
async fn while_the_keys_can_not_be_had_calls_get_503_and_lists_are_answered() {
    let azure = LoopbackAzure::start().await;
    azure.key_vault.set(NAME, &cluster().key_text);
    azure.key_vault.faults.always(VaultFault::Throttled(1));
    let server = server(&azure, TestDatabase::create().await, &[]).await;
    let call = async |server: &TestServer| {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": { "name": "execute_sales_query", "arguments": { "postgresql_query": "select 1" } } });
        server.post(Some(SEATTLE)).body(body.to_string()).send().await.unwrap()
    };
    let list = server.request(Some(SEATTLE), "tools/list", json!({})).await;
    assert_eq!(list["result"]["tools"].as_array().unwrap().len(), 5);
    let refused = call(&server).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["retry-after"], "1");
    let body = refused.text().await.unwrap();
    assert!(body.contains("can not get at its secrets right now") && !body.contains("vault"), "{body}");
    let ready = server.client.get(format!("{}/readyz", server.url)).send().await.unwrap();
    assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(ready.text().await.unwrap().contains("The secrets can not be fetched."));

    azure.key_vault.faults.end();
    until(async || call(&server).await.status() == StatusCode::OK).await;
    assert_eq!(server.sql(SEATTLE, "select 1").await.ok()["rows"], json!([[1]]));

    // Keys that make no sense are as good as none.
    azure.key_vault.set(NAME, "k1:not a key");
    until(async || call(&server).await.status() == StatusCode::SERVICE_UNAVAILABLE).await;
    azure.key_vault.set(NAME, &cluster().key_text);
    until(async || call(&server).await.status() == StatusCode::OK).await;
}

#[tokio::test]
async fn a_claim_key_can_be_rotated_without_a_failed_call() {
    let azure = LoopbackAzure::start().await;
    let old = cluster().key_text.clone();
    azure.key_vault.set(NAME, &old);
    let server = server(&azure, TestDatabase::create().await, &[]).await;
    let asked = async || assert_eq!(server.sql(SEATTLE, "select 1").await.ok()["rows"], json!([[1]]));
    asked().await;
    let new = SigningKey::generate("k2").unwrap();
    let accept = async |keys: &str| {
        let keys = rowgate::identity::SigningKeys::parse(keys).unwrap();
        let mut admin = server.database.superuser().await;
        rowgate::db::migrate::migrate(&mut admin, Some("retail"), Some(&keys)).await.unwrap();
    };
    // First the database believes both, then the vault has the new one in front, then the old one goes.
    accept(&format!("{old},{new}")).await;
    asked().await;
    azure.key_vault.set(NAME, &format!("{new},{old}"));
    for _ in 0..10 {
        asked().await;
    }
    let reads = azure.key_vault.reads(NAME);
    until(async || {
        asked().await;
        azure.key_vault.reads(NAME) > reads + 1
    })
    .await;
    accept(&new).await;
    for _ in 0..10 {
        asked().await;
    }
}

#[tokio::test]
async fn azure_openai_is_asked_with_the_vaults_key() {
    let azure = LoopbackAzure::start().await;
    azure.key_vault.set("openai", &azure.openai.key);
    let settings: Settings = Settings::read(
        [
            ("ROWGATE_EMBEDDER", "azure-openai"),
            ("ROWGATE_OPENAI_ENDPOINT", azure.plain_openai().as_str()),
            ("ROWGATE_OPENAI_KEY_SECRET", "openai"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
    )
    .unwrap();
    let profile = app::profile(&settings, retail::PROFILE).unwrap();
    let embedder =
        app::embedder(&settings, &profile, &Azure::of(identity(&azure), Some(vault(&azure)))).unwrap().unwrap();
    let embedded = embedder.embed(&["a saw".to_owned()]).await.unwrap();
    assert_eq!((embedded.vectors.len(), embedded.vectors[0].len()), (1, 1_536));
    assert_eq!(azure.key_vault.reads("openai"), 1);
    assert!(!azure.tunnelled().iter().any(|host| host.starts_with(OPENAI_HOST)));
}
