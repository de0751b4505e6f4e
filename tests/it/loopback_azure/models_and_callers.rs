//! Azure OpenAI, whose vectors Rowgate takes, and Entra, whose tokens callers send.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use rowgate::embedding::{
    AzureOpenAi, AzureOpenAiSettings, Credential, Embedded, Embedder, EmbeddingModel, TokenSource,
};
use serde_json::{Value, json};

use super::asked;
use crate::support::azure::{
    APP_ID, CLIENT_ID, COGNITIVE_SERVICES, EMBEDDINGS, Entra, EntraFault, KEYS, LOGIN_HOST, LoopbackAzure, OPENAI_HOST,
    OpenAi, OpenAiFault, TENANT,
};

#[tokio::test]
async fn entra_publishes_the_keys_that_its_tokens_are_signed_with() {
    let azure = LoopbackAzure::start().await;
    let http = azure.http_client();
    let document = format!("https://{LOGIN_HOST}/{TENANT}/v2.0/.well-known/openid-configuration");
    let document: Value = http.get(document).send().await.unwrap().json().await.unwrap();
    assert_eq!(document["issuer"], Entra::issuer());
    let keys = async || {
        let url = document["jwks_uri"].as_str().unwrap();
        http.get(url).send().await.unwrap().json::<JwkSet>().await.unwrap()
    };
    let verify = |token: &str, keys: &JwkSet| -> Result<Value, jsonwebtoken::errors::Error> {
        let id = decode_header(token).unwrap().kid.unwrap();
        let key = DecodingKey::from_jwk(keys.find(&id).ok_or(jsonwebtoken::errors::ErrorKind::InvalidToken)?)?;
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&[APP_ID]);
        validation.set_issuer(&[Entra::issuer()]);
        Ok(decode::<Value>(token, &key, &validation)?.claims)
    };
    let published = keys().await;
    let token = azure.entra_token(json!({ "oid": "someone", "azpacr": null }));
    let claims = verify(&token, &published).unwrap();
    assert_eq!((&claims["oid"], &claims["tid"], &claims["azpacr"]), (&json!("someone"), &json!(TENANT), &Value::Null));
    for bad in [
        azure.entra.forged_token(json!({})),
        azure.entra_token(json!({ "exp": 1_000_000_000 })),
        azure.entra_token(json!({ "aud": "another" })),
        azure.entra_token(json!({ "iss": "https://login.example" })),
    ] {
        verify(&bad, &published).unwrap_err();
    }

    azure.entra.rotate();
    let fresh = azure.entra_token(json!({}));
    verify(&fresh, &published).unwrap_err();
    verify(&fresh, &keys().await).unwrap();
    verify(&token, &keys().await).unwrap_err();

    azure.entra.faults.times(1, EntraFault::Failing);
    let url = format!("https://{LOGIN_HOST}/{TENANT}{KEYS}");
    assert_eq!(http.get(&url).send().await.unwrap().status(), 503);
    assert_eq!(http.get(format!("https://{LOGIN_HOST}/another{KEYS}")).send().await.unwrap().status(), 400);
    azure.entra.faults.always(EntraFault::Hangs);
    let before = azure.entra.requests.to(&format!("/{TENANT}{KEYS}"));
    let asking = tokio::spawn(http.get(&url).send());
    asked(|| azure.entra.requests.to(&format!("/{TENANT}{KEYS}")) - before).await;
    asking.abort();
}

/// The managed identity's tokens, as Rowgate's embedder asks for them.
struct Tokens(String, String);

impl TokenSource for Tokens {
    fn token(&self, _: bool) -> BoxFuture<'_, Result<String, Box<dyn std::error::Error + Send + Sync>>> {
        async {
            let resource = "resource=https%3A%2F%2Fcognitiveservices.azure.com";
            let url = format!("{}?api-version=2019-08-01&{resource}&client_id={CLIENT_ID}", self.0);
            let response = reqwest::Client::new().get(url).header("x-identity-header", &self.1).send().await?;
            Ok(response.json::<Value>().await?["access_token"].as_str().ok_or("no token")?.to_owned())
        }
        .boxed()
    }
}

#[tokio::test]
async fn rowgates_embedder_takes_its_vectors() {
    let azure = LoopbackAzure::start().await;
    let embedder = |credential| {
        let settings = AzureOpenAiSettings {
            endpoint: azure.plain_openai(),
            deployment: "small".into(),
            model: EmbeddingModel { name: "text-embedding-3-small".into(), dimensions: 1536 },
            attempt_timeout: Duration::from_secs(10),
            deadline: Duration::from_secs(20),
            attempts: 1,
        };
        AzureOpenAi::new(settings, credential).unwrap()
    };
    let texts = ["paint".to_owned(), "a brush".to_owned()];
    let vectors: Vec<Vec<f32>> = texts.iter().map(|text| OpenAi::vector(text, 1536)).collect();
    let source = Arc::new(Tokens(azure.identity_endpoint(), azure.identity.header.clone()));
    for credential in [Credential::Token(source), Credential::Key(azure.openai.key.clone())] {
        let embedded = embedder(credential).embed(&texts).await.unwrap();
        assert_eq!(embedded, Embedded { vectors: vectors.clone(), tokens: 4 });
    }
    assert_eq!(azure.openai.texts(), [texts.clone(), texts.clone()].concat());
    assert_eq!(azure.identity.issued(COGNITIVE_SERVICES).len(), 1);
    let length: f32 = vectors[0].iter().map(|number| number * number).sum();
    assert!((length - 1.0).abs() < 1e-4 && vectors[0] != vectors[1], "{length}");
    embedder(Credential::Key("wrong".into())).embed(&texts).await.unwrap_err();
}

#[tokio::test]
async fn the_embeddings_api_is_behind_its_real_name_too() {
    let azure = LoopbackAzure::start().await;
    let http = azure.http_client();
    let post = async |body: Value| {
        let token = azure.identity.issue(COGNITIVE_SERVICES);
        let request = http.post(format!("https://{OPENAI_HOST}{EMBEDDINGS}")).bearer_auth(token).json(&body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let (status, body) =
        post(json!({ "model": "small", "input": "paint", "dimensions": 3, "encoding_format": "base64" })).await;
    let bytes: Vec<u8> = OpenAi::vector("paint", 3).iter().flat_map(|number| number.to_le_bytes()).collect();
    let bytes = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
    assert_eq!((status, &body["data"][0]["embedding"]), (200, &json!(bytes)));
    for wrong in [
        json!({ "input": "x" }),
        json!({ "model": "small", "input": [] }),
        json!({ "model": "small", "input": ["a", ""] }),
        json!({ "model": "small", "input": "x", "dimensions": 1537 }),
        json!({ "model": "small", "input": "x", "encoding_format": "hex" }),
    ] {
        assert_eq!(post(wrong).await.0, 400);
    }
    let right = json!({ "model": "small", "input": ["a"] });
    for (fault, status) in [
        (OpenAiFault::Unauthorized, 401),
        (OpenAiFault::Forbidden, 403),
        (OpenAiFault::DeploymentNotFound, 404),
        (OpenAiFault::Throttled(1), 429),
        (OpenAiFault::Failing, 500),
    ] {
        azure.openai.faults.times(1, fault);
        assert_eq!(post(right.clone()).await.0, status);
    }
    azure.openai.faults.always(OpenAiFault::Hangs);
    let before = azure.openai.requests.to(EMBEDDINGS);
    let key = azure.openai.key.clone();
    let request = http.post(format!("https://{OPENAI_HOST}{EMBEDDINGS}")).header("api-key", key).json(&right);
    let asking = tokio::spawn(request.send());
    asked(|| azure.openai.requests.to(EMBEDDINGS) - before).await;
    asking.abort();
}
