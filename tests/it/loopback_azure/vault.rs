//! Key Vault and the managed identity.

use std::time::Duration;

use azure_core::error::ErrorKind;
use azure_core::http::StatusCode;
use azure_security_keyvault_secrets::SecretClient;
use azure_security_keyvault_secrets::models::SecretClientGetSecretOptions;
use serde_json::{Value, json};

use super::asked;
use crate::support::azure::{
    CLIENT_ID, COGNITIVE_SERVICES, IdentityFault, KEY_VAULT, LOGIN_HOST, LoopbackAzure, TENANT, TokenProblem,
    VAULT_HOST, VaultFault,
};

/// What the SDK makes of an answer that is no success.
async fn refused(client: &SecretClient, name: &str) -> (StatusCode, String) {
    let error = client.get_secret(name, None).await.unwrap_err();
    match error.kind() {
        ErrorKind::HttpResponse { status, error_code, .. } => (*status, error_code.clone().unwrap_or_default()),
        other => panic!("{other:?}: {error:?}"),
    }
}

async fn value(client: &SecretClient, name: &str) -> String {
    client.get_secret(name, None).await.unwrap().into_model().unwrap().value.unwrap()
}

#[tokio::test]
async fn the_sdk_reads_a_secret_with_a_token_that_the_vault_asked_for() {
    let azure = LoopbackAzure::start().await;
    let first = azure.key_vault.set("claim-key", "k1:AAAA");
    azure.key_vault.set_expiry("claim-key", 4_102_444_800);
    let client = azure.secret_client();
    let secret = client.get_secret("claim-key", None).await.unwrap().into_model().unwrap();
    assert_eq!(secret.value.as_deref(), Some("k1:AAAA"));
    assert_eq!(secret.id, Some(format!("https://{VAULT_HOST}/secrets/claim-key/{first}")));
    assert_eq!(secret.content_type.as_deref(), Some("text/plain"));
    let attributes = secret.attributes.unwrap();
    assert_eq!((attributes.enabled, attributes.expires.unwrap().unix_timestamp()), (Some(true), 4_102_444_800));
    assert!(attributes.created.is_some() && attributes.updated.is_some());

    // The first request has no token and is told which one to get; the next ones have it at once.
    let requests = azure.key_vault.requests.all();
    assert!(requests.iter().all(|asked| asked.method == "GET"));
    let statuses: Vec<u16> = requests.iter().map(|asked| asked.status).collect();
    assert_eq!(statuses, [401, 200]);
    assert_eq!(azure.identity.issued(KEY_VAULT).len(), 1);
    assert_eq!((azure.key_vault.reads("claim-key"), azure.key_vault.requests.to("/secrets/claim-key")), (1, 2));
    assert!(azure.key_vault.requests.all()[1].query.contains("api-version="));

    let second = azure.key_vault.set("claim-key", "k2:BBBB");
    assert_ne!(first, second);
    assert_eq!(value(&client, "claim-key").await, "k2:BBBB");
    let options = SecretClientGetSecretOptions { secret_version: Some(first), ..Default::default() };
    let old = client.get_secret("claim-key", Some(options)).await.unwrap().into_model().unwrap();
    assert_eq!(old.value.as_deref(), Some("k1:AAAA"));
    assert_eq!(azure.key_vault.reads("claim-key"), 3);
    assert_eq!(azure.tunnelled()[0], format!("{VAULT_HOST}:443"));
}

#[tokio::test]
async fn the_vault_refuses_in_the_words_of_a_real_one() {
    let azure = LoopbackAzure::start().await;
    let client = azure.secret_client();
    assert_eq!(refused(&client, "nothing").await, (StatusCode::NotFound, "SecretNotFound".into()));
    azure.key_vault.set("old", "x");
    azure.key_vault.disable("old");
    assert_eq!(refused(&client, "old").await, (StatusCode::Forbidden, "Forbidden".into()));

    azure.key_vault.set("a", "1");
    let faults = &azure.key_vault.faults;
    faults.times(1, VaultFault::Forbidden);
    faults.times(1, VaultFault::Throttled(7));
    faults.times(1, VaultFault::Failing);
    // The message has line breaks, and the SDK then takes the status for the code: only the body tells more.
    assert_eq!(refused(&client, "a").await, (StatusCode::Forbidden, "403".into()));
    assert_eq!(refused(&client, "a").await, (StatusCode::TooManyRequests, "Throttled".into()));
    assert_eq!(refused(&client, "a").await, (StatusCode::InternalServerError, "InternalServerError".into()));
    assert_eq!(value(&client, "a").await, "1");

    faults.always(VaultFault::Hangs);
    let hung = azure.key_vault.requests.all().len();
    let asking = tokio::spawn(async move { client.get_secret("a", None).await.map(drop) });
    asked(|| azure.key_vault.requests.all().len() - hung).await;
    assert_eq!(azure.key_vault.requests.all().last().unwrap().status, 0);
    assert!(!asking.is_finished());
    asking.abort();

    faults.end();

    // The SDK asks for no token that is for something else than the vault's own domain.
    azure.key_vault.challenge_for("https://vault.elsewhere.example");
    let error = azure.secret_client().get_secret("a", None).await.unwrap_err();
    assert!(error.to_string().contains("doesn't match the requested domain"), "{error:?}");
    assert!(azure.identity.issued("https://vault.elsewhere.example").is_empty());
    azure.key_vault.challenge_for(KEY_VAULT);

    // The bodies, as they are.
    let http = azure.http_client();
    let token = azure.identity.issue(KEY_VAULT);
    let get = |path: &str, token: &str| http.get(format!("https://{VAULT_HOST}{path}")).bearer_auth(token);
    faults.times(1, VaultFault::Forbidden);
    let body: Value = get("/secrets/a/?api-version=7.5", &token).send().await.unwrap().json().await.unwrap();
    assert_eq!(body["error"]["innererror"]["code"], "ForbiddenByRbac");
    assert!(body["error"]["message"].as_str().unwrap().contains("secrets/getSecret/action"), "{body}");
    let body: Value = get("/secrets/old?api-version=7.5", &token).send().await.unwrap().json().await.unwrap();
    assert_eq!(body["error"]["innererror"]["code"], "SecretDisabled");
    faults.times(1, VaultFault::Throttled(7));
    let response = get("/secrets/a?api-version=7.5", &token).send().await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (429, &"7".parse().unwrap()));
    assert_eq!(get("/secrets/a", &token).send().await.unwrap().status(), 400);

    // A token for something else, and one that is not good any longer.
    let other = azure.identity.issue(COGNITIVE_SERVICES);
    let response = get("/secrets/a?api-version=7.5", &other).send().await.unwrap();
    let challenge = format!("Bearer authorization=\"https://{LOGIN_HOST}/{TENANT}\", resource=\"{KEY_VAULT}\"");
    assert_eq!(
        (response.status().as_u16(), response.headers()["www-authenticate"].to_str().unwrap()),
        (401, &*challenge)
    );
    assert!(response.text().await.unwrap().contains("AKV10022"));
    assert_eq!(azure.identity.check(&other, KEY_VAULT), Err(TokenProblem::Resource(COGNITIVE_SERVICES.into())));
    azure.identity.revoke_all();
    assert_eq!(get("/secrets/a?api-version=7.5", &token).send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn the_identity_endpoint_wants_what_app_service_wants() {
    let azure = LoopbackAzure::start().await;
    let http = reqwest::Client::new();
    let ask = async |header: &str, query: &str| {
        let request = http.get(format!("{}?{query}", azure.identity_endpoint())).header("x-identity-header", header);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let proof = azure.identity.header.as_str();
    let right = format!("api-version=2019-08-01&resource=https%3A%2F%2Fvault.azure.net&client_id={CLIENT_ID}");
    azure.identity.set_lifetime(Duration::from_secs(3600));
    let (status, token) = ask(proof, &right).await;
    assert_eq!((status, &token["resource"], &token["token_type"]), (200, &json!(KEY_VAULT), &json!("Bearer")));
    assert!(token["expires_on"].as_str().unwrap().parse::<u64>().unwrap() > 1_700_000_000);
    let token = token["access_token"].as_str().unwrap();
    assert_eq!(azure.identity.check(token, KEY_VAULT), Ok(()));
    assert_eq!(azure.identity.check("another", KEY_VAULT), Err(TokenProblem::Unknown));

    azure.identity.set_lifetime(Duration::ZERO);
    let short = azure.identity.issue(KEY_VAULT);
    assert_eq!(azure.identity.check(&short, KEY_VAULT), Err(TokenProblem::Expired));
    assert_eq!(ask("wrong", &right).await.0, 401);
    assert_eq!(ask(proof, &right.replace("2019-08-01", "2017-09-01")).await.0, 400);
    assert_eq!(ask(proof, &right.replace("resource", "scope")).await.0, 400);
    let (status, body) = ask(proof, &right.replace(CLIENT_ID, "another")).await;
    assert!(status == 400 && body["message"].as_str().unwrap().starts_with("No User Assigned"), "{body}");

    for (fault, status) in
        [(IdentityFault::NotFound, 400), (IdentityFault::Throttled, 429), (IdentityFault::Failing, 500)]
    {
        azure.identity.faults.times(1, fault);
        assert_eq!(ask(proof, &right).await.0, status);
    }
    azure.identity.faults.always(IdentityFault::Hangs);
    let hung = azure.identity.requests.all().len();
    let request = http.get(format!("{}?{right}", azure.identity_endpoint())).header("x-identity-header", proof).send();
    let asking = tokio::spawn(request);
    asked(|| azure.identity.requests.all().len() - hung).await;
    assert!(!asking.is_finished());
    asking.abort();
}
