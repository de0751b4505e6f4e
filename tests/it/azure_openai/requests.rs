//! What is sent: the request as the API wants it, to the endpoint that is set and to no other, over one connection,
//! with a key or a token, and with another token where one is refused.

use std::error::Error as StdError;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::http::Method;
use futures_util::future::BoxFuture;
use rowgate::embedding::{Credential, Embedded, Embedder, EmbeddingError, TokenSource};
use serde_json::json;

use super::{KEY, Reply, Service, Tokens, busy, embed, is_right, says, unauthorized};

#[tokio::test]
async fn the_request_is_as_the_api_wants_it() {
    let service = Service::start([Reply::Vectors]).await;
    let embedder = service.embedder();
    is_right(embed(&embedder).await);
    {
        let seen = service.seen.lock().unwrap();
        assert_eq!((&seen[0].method, seen[0].target.as_str()), (&Method::POST, "/openai/v1/embeddings"));
        let body = json!({"model": "embeddings-of-ours", "input": ["a", "bb", "ccc", "dddd"], "dimensions": 3,
            "encoding_format": "float"});
        assert_eq!(seen[0].body, body);
    }
    assert_eq!(service.header(0, "api-key").as_deref(), Some(KEY));
    assert_eq!(service.header(0, "authorization"), None);
    assert_eq!(service.header(0, "content-type").as_deref(), Some("application/json"));
    assert_eq!(service.header(0, "user-agent").as_deref(), Some("rowgate/0.1.0"));

    let service = Service::start([Reply::Vectors]).await;
    let embedder = service.embedder_with(Credential::Token(Arc::<Tokens>::default()), |_| ());
    is_right(embed(&embedder).await);
    assert_eq!(service.header(0, "authorization").as_deref(), Some("Bearer 5ecret0f4ll5ecrets-0"));
    assert_eq!(service.header(0, "api-key"), None);
    assert_eq!((embedder.model().name.as_str(), embedder.batch()), ("text-embedding-3-small", 256));
}

#[tokio::test]
async fn endpoints_end_in_the_same_path() {
    let service = Service::start([Reply::Vectors]).await;
    for (tail, target) in [
        ("", "/openai/v1/embeddings"),
        ("/", "/openai/v1/embeddings"),
        ("/openai/v1", "/openai/v1/embeddings"),
        ("/openai/v1/", "/openai/v1/embeddings"),
        ("/a%20gateway", "/a%20gateway/openai/v1/embeddings"),
    ] {
        let embedder = service.embedder_with(Credential::Key(KEY.into()), |settings| settings.endpoint += tail);
        is_right(embed(&embedder).await);
        assert_eq!(service.seen.lock().unwrap().last().unwrap().target, target);
    }
}

#[tokio::test]
async fn calls_share_a_connection() {
    let service = Service::start([Reply::Vectors, busy(&[("retry-after-ms", "1")]), Reply::Vectors]).await;
    let embedder = service.embedder();
    for _ in 0..3 {
        is_right(embed(&embedder).await);
    }
    let seen = service.seen.lock().unwrap();
    assert_eq!(seen.len(), 4);
    assert!(seen.iter().all(|request| request.peer == seen[0].peer));
}

#[tokio::test]
async fn no_texts_need_no_request() {
    let service = Service::start([Reply::Vectors]).await;
    assert_eq!(service.embedder().embed(&[]).await.unwrap(), Embedded { vectors: vec![], tokens: 0 });
    assert_eq!(service.requests(), 0);
}

#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    let tokens = Arc::<Tokens>::default();
    let service = Service::start([unauthorized(), busy(&[]), Reply::Vectors]).await;
    let embedder = service.embedder_with(Credential::Token(tokens.clone()), |_| ());
    is_right(embed(&embedder).await);
    let shown: Vec<_> = (0..3).map(|n| service.header(n, "authorization").unwrap()).collect();
    assert_eq!(shown, ["Bearer 5ecret0f4ll5ecrets-0", "Bearer 5ecret0f4ll5ecrets-1", "Bearer 5ecret0f4ll5ecrets-1"]);
    assert_eq!(tokens.asked.load(Ordering::SeqCst), 2);
    is_right(embed(&embedder).await);
    assert_eq!(service.header(3, "authorization").unwrap(), "Bearer 5ecret0f4ll5ecrets-1");

    let service = Service::start([unauthorized()]).await;
    let error = embed(&service.embedder_with(Credential::Token(tokens), |_| ())).await.unwrap_err();
    let EmbeddingError::Refused { status: 401, message, .. } = error else { panic!("{error:?}") };
    assert!(message.starts_with("Unauthorized. Access token"), "{message}");
    assert_eq!(service.requests(), 2);

    // There is only one key.
    let service = Service::start([unauthorized()]).await;
    assert!(matches!(embed(&service.embedder()).await, Err(EmbeddingError::Refused { status: 401, .. })));
    assert_eq!(service.requests(), 1);
}

#[tokio::test]
async fn without_a_token_there_is_no_request() {
    struct None;
    impl TokenSource for None {
        fn token(&self, _: bool) -> BoxFuture<'_, Result<String, Box<dyn StdError + Send + Sync>>> {
            Box::pin(async { Err("no identity endpoint".into()) })
        }
    }
    let service = Service::start([Reply::Vectors]).await;
    let error = embed(&service.embedder_with(Credential::Token(Arc::new(None)), |_| ())).await.unwrap_err();
    assert!(matches!(error, EmbeddingError::Credential(_)));
    assert_eq!(error.source().unwrap().to_string(), "no identity endpoint");
    assert_eq!(service.requests(), 0);
}

#[tokio::test]
async fn a_redirect_does_not_take_the_key_along() {
    let other = Service::start([Reply::Vectors]).await;
    let location = format!("http://{}/openai/v1/embeddings", other.address);
    let service = Service::start([says(307, &[("location", &location)], json!({}))]).await;
    let error = embed(&service.embedder()).await.unwrap_err();
    assert!(matches!(error, EmbeddingError::Refused { status: 307, .. }), "{error:?}");
    assert_eq!(other.requests(), 0);
}
