//! The embedder against a server on loopback that speaks the wire format, and answers each request as a test says.
//! Here is that server, what it says in Azure's words, and a source of tokens.

mod answers;
mod circuit;
mod failures;
mod requests;
mod retries;

use std::error::Error as StdError;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use futures_util::future::BoxFuture;
use futures_util::stream;
use rowgate::embedding::{
    AzureOpenAi, AzureOpenAiSettings, Credential, Embedded, Embedder, EmbeddingError, EmbeddingModel, TokenSource,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const KEY: &str = "5ecret0f4ll5ecrets";

/// What the service does with one request.
#[derive(Clone)]
enum Reply {
    /// The vectors, in another order than the texts.
    Vectors,
    /// The same, after a change.
    Changed(fn(&mut Value)),
    /// This and nothing else.
    Says(u16, Vec<(&'static str, String)>, String),
    /// This status, with the credential that came as the explanation.
    Echoes(u16),
    /// No answer, ever.
    Hangs,
    /// Half of an answer, and the end of the connection.
    Breaks,
    /// An answer without an end.
    Floods,
}

struct Seen {
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Value,
    peer: SocketAddr,
    at: Instant,
}

/// The service: answers by the script, whose last line is for all further requests too.
struct Service {
    script: Mutex<Vec<Reply>>,
    seen: Mutex<Vec<Seen>>,
    address: SocketAddr,
}

impl Service {
    async fn start(script: impl IntoIterator<Item = Reply>) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = Mutex::new(script.into_iter().collect());
        let service = Arc::new(Self { script, seen: Mutex::default(), address });
        let router = axum::Router::new().fallback(answer).with_state(service.clone());
        let router = router.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, router).await });
        service
    }

    fn requests(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// Time between two requests.
    fn between(&self, first: usize, second: usize) -> Duration {
        let seen = self.seen.lock().unwrap();
        seen[second].at - seen[first].at
    }

    fn header(&self, request: usize, name: &str) -> Option<String> {
        let seen = self.seen.lock().unwrap();
        seen[request].headers.get(name).map(|value| value.to_str().unwrap().to_owned())
    }

    fn embedder(&self) -> AzureOpenAi {
        self.embedder_with(Credential::Key(KEY.into()), |_| ())
    }

    fn embedder_with(&self, credential: Credential, change: impl FnOnce(&mut AzureOpenAiSettings)) -> AzureOpenAi {
        let mut settings = settings(&format!("http://{}", self.address));
        change(&mut settings);
        AzureOpenAi::new(settings, credential).unwrap()
    }
}

fn settings(endpoint: &str) -> AzureOpenAiSettings {
    AzureOpenAiSettings {
        endpoint: endpoint.into(),
        deployment: "embeddings-of-ours".into(),
        model: EmbeddingModel { name: "text-embedding-3-small".into(), dimensions: 3 },
        attempt_timeout: Duration::from_secs(10),
        deadline: Duration::from_secs(20),
        attempts: 4,
    }
}

/// The vector that the service gives to a text.
fn vector(text: &str) -> Vec<f32> {
    vec![text.len() as f32, 0.015625, -1.5e-3]
}

async fn answer(State(service): State<Arc<Service>>, request: Request) -> Response {
    let at = Instant::now();
    let (parts, body) = request.into_parts();
    let ConnectInfo(peer) = *parts.extensions.get::<ConnectInfo<SocketAddr>>().unwrap();
    let body: Value = serde_json::from_slice(&axum::body::to_bytes(body, usize::MAX).await.unwrap()).unwrap();
    let texts: Vec<String> = body["input"].as_array().unwrap().iter().map(|t| t.as_str().unwrap().into()).collect();
    let target = parts.uri.to_string();
    let shown = ["api-key", "authorization"].iter().find_map(|name| parts.headers.get(*name));
    let shown = shown.unwrap().to_str().unwrap().to_owned();
    service.seen.lock().unwrap().push(Seen { method: parts.method, target, headers: parts.headers, body, peer, at });
    let reply = {
        let mut script = service.script.lock().unwrap();
        if script.len() > 1 { script.remove(0) } else { script[0].clone() }
    };
    let mut data: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| json!({"object": "embedding", "index": index, "embedding": vector(text)}))
        .collect();
    data.reverse();
    let middle = data.len() / 2;
    data.rotate_left(middle);
    let mut all = json!({
        "object": "list", "data": data, "model": "text-embedding-3-small",
        "usage": {"prompt_tokens": 7 * texts.len(), "total_tokens": 7 * texts.len()},
    });
    let answer = Response::builder().header("content-type", "application/json").header("apim-request-id", "1");
    match reply {
        Reply::Vectors => answer.body(Body::from(all.to_string())),
        Reply::Changed(change) => {
            change(&mut all);
            answer.body(Body::from(all.to_string()))
        }
        Reply::Says(status, headers, body) => headers
            .into_iter()
            .fold(answer.status(status), |answer, (name, value)| answer.header(name, value))
            .body(Body::from(body)),
        Reply::Echoes(status) => {
            let error = json!({"code": shown, "message": format!("not for you: {shown}!")});
            answer.status(status).body(Body::from(json!({"error": error}).to_string()))
        }
        Reply::Hangs => pending().await,
        Reply::Breaks => {
            let half = Bytes::from(all.to_string()).slice(..20);
            answer.body(Body::from_stream(stream::iter([Ok(half), Err(io::Error::other("broken"))])))
        }
        Reply::Floods => {
            let flood = stream::repeat_with(|| Ok::<_, io::Error>(Bytes::from_static(&[b' '; 1 << 20])));
            answer.body(Body::from_stream(flood))
        }
    }
    .unwrap()
}

fn says(status: u16, headers: &[(&'static str, &str)], body: Value) -> Reply {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Reply::Says(status, headers, body.to_string())
}

/// Too many requests, in Azure's words.
fn busy(headers: &[(&'static str, &str)]) -> Reply {
    let message =
        "Requests to the Embeddings_Create Operation have exceeded call rate limit. Please retry after 1 second.";
    says(429, headers, json!({"error": {"code": "429", "message": message}}))
}

fn failing() -> Reply {
    says(
        500,
        &[],
        json!({"error": {"code": "InternalServerError", "message": "Backend returned unexpected response."}}),
    )
}

fn refusing() -> Reply {
    let message = "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.";
    let inner = json!({"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"hate": {"filtered": true}}});
    let error = json!({"message": message, "type": null, "param": "prompt", "code": "content_filter", "status": 400,
        "innererror": inner});
    says(400, &[], json!({"error": error}))
}

/// What Azure's gateway says of a token that it does not take. It has no `error` around it.
fn unauthorized() -> Reply {
    let message = "Unauthorized. Access token is missing, invalid, audience is incorrect, or have expired.";
    says(401, &[], json!({"statusCode": 401, "message": message}))
}

async fn embed(embedder: &AzureOpenAi) -> Result<Embedded, EmbeddingError> {
    embedder.embed(&["a".into(), "bb".into(), "ccc".into(), "dddd".into()]).await
}

fn is_right(outcome: Result<Embedded, EmbeddingError>) {
    let vectors = ["a", "bb", "ccc", "dddd"].map(vector).to_vec();
    assert_eq!(outcome.unwrap(), Embedded { vectors, tokens: 28 });
}

/// Gives token after token, the first of them expired.
#[derive(Default)]
struct Tokens {
    fresh: AtomicUsize,
    asked: AtomicUsize,
}

impl TokenSource for Tokens {
    fn token(&self, fresh: bool) -> BoxFuture<'_, Result<String, Box<dyn StdError + Send + Sync>>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let generation =
            if fresh { self.fresh.fetch_add(1, Ordering::SeqCst) + 1 } else { self.fresh.load(Ordering::SeqCst) };
        Box::pin(async move { Ok(format!("{KEY}-{generation}")) })
    }
}
