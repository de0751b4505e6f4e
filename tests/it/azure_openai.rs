//! The embedder against a server on loopback that speaks the wire format, and answers each request as a test says.
//! One long file, because every test reads the same scripted service.

use std::error::Error as StdError;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

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
use tokio::net::{TcpListener, TcpSocket};

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

fn shape(outcome: Result<Embedded, EmbeddingError>) -> &'static str {
    let Err(EmbeddingError::Shape(what)) = outcome else { panic!("{outcome:?}") };
    what
}

/// An error as a log would have it, with all causes, in words and in its structure.
fn all_of(error: &EmbeddingError) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(" {error} {error:?}");
        source = error.source();
    }
    text
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
async fn an_answer_longer_than_a_small_buffer_comes_whole() {
    let service = Service::start([Reply::Vectors]).await;
    let texts: Vec<String> = (0..256).map(|n| "x".repeat(n + 1)).collect();
    let embedded = service.embedder().embed(&texts).await.unwrap();
    assert_eq!(embedded.vectors, texts.iter().map(|text| vector(text)).collect::<Vec<_>>());
}

#[tokio::test]
async fn waits_as_long_as_the_service_asks() {
    let service = Service::start([busy(&[("Retry-After", "1")]), Reply::Vectors]).await;
    is_right(embed(&service.embedder()).await);
    assert_eq!(service.requests(), 2);
    assert!(service.between(0, 1) >= Duration::from_secs(1), "{:?}", service.between(0, 1));

    // In milliseconds; that goes before the seconds, which Azure sends beside it.
    let service = Service::start([busy(&[("retry-after-ms", "400"), ("retry-after", "3600")]), Reply::Vectors]).await;
    is_right(embed(&service.embedder()).await);
    let waited = service.between(0, 1);
    assert!(waited >= Duration::from_millis(400) && waited < Duration::from_secs(10), "{waited:?}");

    // Until a date. It has whole seconds: two from now are at least one.
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(2));
    let service = Service::start([says(503, &[("retry-after", &date)], json!({})), Reply::Vectors]).await;
    is_right(embed(&service.embedder()).await);
    let waited = service.between(0, 1);
    assert!(waited >= Duration::from_millis(700) && waited < Duration::from_secs(10), "{waited:?}");
}

#[tokio::test]
async fn gives_up_at_once_if_it_would_wait_too_long() {
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3600));
    for (status, name, value) in [
        (429, "retry-after", "3600"),
        (503, "retry-after-ms", "3600000"),
        (429, "retry-after", date.as_str()),
        // Within the limits of a number, but of no clock.
        (429, "retry-after", "18446744073709549568"),
    ] {
        let service = Service::start([says(status, &[(name, value)], json!({"message": "quota"}))]).await;
        let start = Instant::now();
        let error = embed(&service.embedder()).await.unwrap_err();
        let EmbeddingError::Busy { retry_after: Some(asked), message } = error else { panic!("{error:?}") };
        assert!(asked >= Duration::from_secs(3590), "{asked:?}");
        assert_eq!(message, "quota");
        assert!(start.elapsed() < Duration::from_secs(1));
        assert_eq!(service.requests(), 1);
    }
}

#[tokio::test]
async fn a_wait_that_says_nothing_is_no_wait() {
    for value in ["-1", "soon", "nan", "inf", "", "1e300", "Thu, 01 Jan 1970 00:00:00 GMT"] {
        let service = Service::start([busy(&[("retry-after", value)]), Reply::Vectors]).await;
        is_right(embed(&service.embedder()).await);
        assert_eq!(service.requests(), 2);
    }
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    for reply in [
        failing(),
        says(408, &[], json!({})),
        says(502, &[], json!("not an object")),
        busy(&[]),
        Reply::Says(504, vec![], "<html>gateway</html>".into()),
        Reply::Breaks,
    ] {
        let service = Service::start([reply.clone(), reply, Reply::Vectors]).await;
        is_right(embed(&service.embedder()).await);
        assert_eq!(service.requests(), 3);
    }
}

#[tokio::test]
async fn attempts_have_an_end() {
    let service = Service::start([failing()]).await;
    let error = embed(&service.embedder()).await.unwrap_err();
    let EmbeddingError::Failing { status: 500, code, message } = error else { panic!("{error:?}") };
    assert_eq!((code.as_str(), message.as_str()), ("InternalServerError", "Backend returned unexpected response."));
    assert_eq!(service.requests(), 4);

    let service = Service::start([busy(&[])]).await;
    let error = embed(&service.embedder_with(Credential::Key(KEY.into()), |s| s.attempts = 2)).await.unwrap_err();
    assert!(matches!(&error, EmbeddingError::Busy { retry_after: None, message } if message.starts_with("Requests")));
    assert_eq!(service.requests(), 2);

    let service = Service::start([Reply::Breaks]).await;
    let error = embed(&service.embedder()).await.unwrap_err();
    assert!(matches!(error, EmbeddingError::Unreachable(_)), "{error:?}");
    assert_eq!(service.requests(), 4);
}

#[tokio::test]
async fn a_slow_attempt_is_left_for_another() {
    let service = Service::start([Reply::Hangs, Reply::Vectors]).await;
    let embedder = service.embedder_with(Credential::Key(KEY.into()), |settings| {
        settings.attempt_timeout = Duration::from_secs(1);
    });
    is_right(embed(&embedder).await);
    assert_eq!(service.requests(), 2);
    assert!(service.between(0, 1) >= Duration::from_millis(900), "{:?}", service.between(0, 1));
}

#[tokio::test]
async fn a_call_ends_by_its_deadline() {
    let service = Service::start([Reply::Hangs]).await;
    let embedder = service.embedder_with(Credential::Key(KEY.into()), |settings| {
        settings.attempt_timeout = Duration::from_millis(400);
        settings.deadline = Duration::from_millis(1500);
        settings.attempts = 100;
    });
    let start = Instant::now();
    let error = embed(&embedder).await.unwrap_err();
    assert!(matches!(error, EmbeddingError::TimedOut), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(service.requests() >= 2);

    // So does one that waits for a token.
    struct Never;
    impl TokenSource for Never {
        fn token(&self, _: bool) -> BoxFuture<'_, Result<String, Box<dyn StdError + Send + Sync>>> {
            Box::pin(pending())
        }
    }
    let embedder = service.embedder_with(Credential::Token(Arc::new(Never)), |settings| {
        settings.deadline = Duration::from_millis(300);
    });
    assert!(matches!(embed(&embedder).await, Err(EmbeddingError::TimedOut)));
}

#[tokio::test]
async fn an_answer_is_checked() {
    for (change, what) in [
        (
            (|all| all["data"].as_array_mut().unwrap().truncate(3)) as fn(&mut Value),
            "it has not one vector for each text",
        ),
        (|all| all["data"] = json!([]), "it has not one vector for each text"),
        (
            |all| {
                let first = all["data"][0].clone();
                all["data"].as_array_mut().unwrap().push(first);
            },
            "it has not one vector for each text",
        ),
        // Two vectors for one text.
        (|all| all["data"][0]["index"] = all["data"][1]["index"].clone(), "it has not one vector for each text"),
        (|all| all["data"][0]["index"] = json!(4), "it has not one vector for each text"),
        (|all| all["data"][0]["index"] = json!(-1), "it is not the JSON of embeddings"),
        (|all| all["data"][2]["embedding"] = json!([1.0, 2.0]), "a vector has other dimensions"),
        (|all| all["data"][2]["embedding"] = json!([1.0, 2.0, 3.0, 4.0]), "a vector has other dimensions"),
        (|all| all["data"][2]["embedding"] = json!([1.0, 2.0, null]), "it is not the JSON of embeddings"),
        (|all| all["data"][2]["embedding"] = json!("AACAPwAAAEA="), "it is not the JSON of embeddings"),
        (|all| all["data"][2]["embedding"] = json!([1.0, 2.0, -1e300]), "a number is not finite"),
        (|all| all["usage"] = json!({}), "it is not the JSON of embeddings"),
        (
            |all| *all = json!({"error": {"code": "x", "message": "with status 200"}}),
            "it is not the JSON of embeddings",
        ),
    ] {
        let service = Service::start([Reply::Changed(change)]).await;
        assert_eq!(shape(embed(&service.embedder()).await), what);
        assert_eq!(service.requests(), 1);
    }
    for body in
        [r#"{"object":"list","data":[{"index":0,"embedd"#, r#"{"data":[{"index":0,"embedding":[NaN,1,2]}]}"#, ""]
    {
        let service = Service::start([Reply::Says(200, vec![], body.into())]).await;
        assert_eq!(shape(embed(&service.embedder()).await), "it is not the JSON of embeddings");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_cut() {
    let service = Service::start([Reply::Floods]).await;
    let embedder = service.embedder_with(Credential::Key(KEY.into()), |settings| {
        settings.attempt_timeout = Duration::from_secs(30);
        settings.deadline = Duration::from_secs(30);
    });
    assert_eq!(shape(embed(&embedder).await), "it is too long");
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
async fn a_refusal_is_final_and_in_the_words_of_the_service() {
    let service = Service::start([refusing()]).await;
    let error = embed(&service.embedder()).await.unwrap_err();
    let EmbeddingError::Refused { status: 400, code, message } = &error else { panic!("{error:?}") };
    assert_eq!(code, "content_filter");
    assert!(message.starts_with("The response was filtered due to the prompt"), "{message}");
    assert_eq!(service.requests(), 1);

    // No JSON, no words; too many of them; words that would start a line of their own in a log.
    let long =
        json!({"error": {"code": null, "message": format!("one\ntwo\u{1b}[31m{}", "ß".repeat(5000))}}).to_string();
    let longer = json!({"error": {"message": "x".repeat(1 << 20)}}).to_string();
    for (status, body, start, length) in
        [(404, "Resource not found", "", 0), (413, &longer, "", 0), (422, &long, "one two [31mßß", 300)]
    {
        let service = Service::start([Reply::Says(status, vec![], body.into())]).await;
        let error = embed(&service.embedder()).await.unwrap_err();
        let EmbeddingError::Refused { status: got, code, message } = error else { panic!("{error:?}") };
        assert_eq!((got, code.as_str(), message.chars().count()), (status, "", length));
        assert!(message.starts_with(start), "{message}");
        assert_eq!(service.requests(), 1);
    }
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

/// An address of our own at which nothing listens.
fn nobody() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[tokio::test]
async fn nobody_there() {
    let (_socket, address) = nobody();
    let embedder = AzureOpenAi::new(settings(&format!("http://{address}")), Credential::Key(KEY.into())).unwrap();
    let error = embed(&embedder).await.unwrap_err();
    assert!(matches!(error, EmbeddingError::Unreachable(_)), "{error:?}");
    assert!(all_of(&error).contains("refused"), "{}", all_of(&error));
}

fn refused_for(outcome: Result<Embedded, EmbeddingError>) -> Duration {
    let Err(EmbeddingError::CircuitOpen { retry_after }) = outcome else { panic!("{outcome:?}") };
    retry_after
}

/// Calls until one is refused without asking the service, and says how many were not.
async fn until_refused(embedder: &AzureOpenAi) -> (usize, Duration) {
    for calls in 0..100 {
        match embed(embedder).await {
            Err(EmbeddingError::Failing { .. }) => {}
            outcome => return (calls, refused_for(outcome)),
        }
    }
    panic!("the service is asked again and again");
}

/// Calls until one is not refused.
async fn until_asked(embedder: &AzureOpenAi) -> Result<Embedded, EmbeddingError> {
    loop {
        match embed(embedder).await {
            Err(EmbeddingError::CircuitOpen { retry_after }) => tokio::time::sleep(retry_after).await,
            outcome => return outcome,
        }
    }
}

// How long it is left alone is tried in `circuit.rs`, by a clock that stands still.
#[tokio::test]
async fn a_service_that_fails_is_left_alone() {
    let service = Service::start([failing()]).await;
    let embedder = service.embedder_with(Credential::Key(KEY.into()), |settings| {
        settings.attempts = 1;
        settings.deadline = Duration::from_secs(6);
    });
    let (calls, left) = until_refused(&embedder).await;
    assert!(calls >= 5 && left < Duration::from_secs(1), "{calls} calls, {left:?}");
    assert_eq!(service.requests(), calls);

    // Half-open: one tries, once, fails, and it is open again.
    let outcome = until_asked(&embedder).await;
    assert!(matches!(outcome, Err(EmbeddingError::Failing { .. })), "{outcome:?}");
    assert_eq!(service.requests(), calls + 1);

    // One tries, and what it asks is never answered: the same is asked beside it, and nobody else asks meanwhile.
    service.script.lock().unwrap().splice(.., [Reply::Hangs, Reply::Hangs, Reply::Vectors]);
    let trial = until_asked(&embedder);
    let meanwhile = async {
        while service.requests() < calls + 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        refused_for(embed(&embedder).await)
    };
    let (trial, left) = tokio::join!(trial, meanwhile);
    is_right(trial);
    assert!(left <= Duration::from_secs(6), "{left:?}");
    assert_eq!(service.requests(), calls + 4);

    // It worked, so all may again; five more failures are needed.
    is_right(embed(&embedder).await);
    service.script.lock().unwrap().splice(.., [failing()]);
    assert!(until_refused(&embedder).await.0 >= 5);
}

#[tokio::test]
async fn a_trial_that_is_not_answered_ends() {
    let service = Service::start([failing()]).await;
    let embedder = service.embedder_with(Credential::Key(KEY.into()), |settings| {
        settings.attempts = 1;
        settings.attempt_timeout = Duration::from_secs(1);
    });
    until_refused(&embedder).await;
    service.script.lock().unwrap().splice(.., [Reply::Hangs]);
    assert!(matches!(until_asked(&embedder).await, Err(EmbeddingError::TimedOut)));
    service.script.lock().unwrap().splice(.., [Reply::Vectors]);
    is_right(until_asked(&embedder).await);
}

#[tokio::test]
async fn a_trial_may_need_another_token() {
    let service = Service::start([failing()]).await;
    let tokens = Arc::<Tokens>::default();
    let embedder = service.embedder_with(Credential::Token(tokens), |settings| settings.attempts = 1);
    until_refused(&embedder).await;
    service.script.lock().unwrap().splice(.., [unauthorized(), Reply::Vectors]);
    is_right(until_asked(&embedder).await);
}

#[tokio::test]
async fn a_service_that_asks_for_it_is_left_alone_for_longer() {
    for (asked, least, most) in [("60", 58, 60), ("86400", 298, 300)] {
        let service = Service::start([busy(&[("retry-after", asked)])]).await;
        let embedder = service.embedder();
        for _ in 0..5 {
            assert!(matches!(embed(&embedder).await, Err(EmbeddingError::Busy { .. })));
        }
        let left = refused_for(embed(&embedder).await);
        assert!(left > Duration::from_secs(least) && left <= Duration::from_secs(most), "{left:?}");
        assert_eq!(service.requests(), 5);
    }
}

#[tokio::test]
async fn refusals_leave_the_circuit_closed() {
    let mut script = vec![failing(); 4];
    script.extend(vec![refusing(); 20]);
    script.extend(vec![failing(); 4]);
    script.push(Reply::Vectors);
    let service = Service::start(script).await;
    let embedder = service.embedder_with(Credential::Key(KEY.into()), |settings| settings.attempts = 1);
    for _ in 0..28 {
        let error = embed(&embedder).await.unwrap_err();
        assert!(matches!(error, EmbeddingError::Failing { .. } | EmbeddingError::Refused { .. }), "{error:?}");
    }
    is_right(embed(&embedder).await);
}

#[tokio::test]
async fn endpoints_and_settings_that_can_not_work() {
    let key = || Credential::Key(KEY.into());
    for endpoint in [
        "",
        "resource.openai.azure.com",
        "http://resource.openai.azure.com",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "http://10.0.0.1",
        "http://[::2]",
        "http://0.0.0.0",
        "ftp://127.0.0.1",
        "https://user@resource.openai.azure.com",
        "https://user:5ecret0f4ll5ecrets@resource.openai.azure.com",
        "https://resource.openai.azure.com/?api-version=2024-02-01",
        "https://resource.openai.azure.com/#there",
    ] {
        let error = AzureOpenAi::new(settings(endpoint), key()).unwrap_err();
        assert!(matches!(error, EmbeddingError::Settings(_)), "{endpoint}");
        assert!(!all_of(&error).contains(KEY));
    }
    for endpoint in
        ["https://resource.openai.azure.com", "https://gateway.example.com/ai/", "http://localhost:1", "http://[::1]:1"]
    {
        AzureOpenAi::new(settings(endpoint), key()).unwrap();
    }
    for (attempt_timeout, deadline) in
        [(0, 1), (1, 0), (3601, 1), (1, 3601)].map(|(a, d)| (Duration::from_secs(a), Duration::from_secs(d)))
    {
        let settings = AzureOpenAiSettings { attempt_timeout, deadline, ..settings("https://a.openai.azure.com") };
        assert!(matches!(AzureOpenAi::new(settings, key()), Err(EmbeddingError::Settings(_))));
    }
    let key = Credential::Key(format!("{KEY}\n"));
    let error = AzureOpenAi::new(settings("https://a.openai.azure.com"), key).unwrap_err();
    assert!(matches!(error, EmbeddingError::Credential(_)));
    assert!(!all_of(&error).contains(KEY));
}

#[tokio::test]
async fn no_secret_shows() {
    let (_socket, address) = nobody();
    for credential in [Credential::Key(KEY.into()), Credential::Token(Arc::<Tokens>::default())] {
        for reply in [
            Reply::Echoes(400),
            Reply::Echoes(401),
            Reply::Echoes(429),
            Reply::Echoes(500),
            Reply::Breaks,
            Reply::Hangs,
            Reply::Says(200, vec![], KEY.into()),
        ] {
            let service = Service::start([reply]).await;
            let embedder = service.embedder_with(credential.clone(), |settings| {
                settings.attempts = 1;
                settings.attempt_timeout = Duration::from_millis(500);
            });
            let error = embed(&embedder).await.unwrap_err();
            assert!(!all_of(&error).contains(KEY), "{error:?}");
            assert!(!format!("{embedder:?} {embedder:#?}").contains(KEY));
        }
        let embedder = AzureOpenAi::new(settings(&format!("http://{address}")), credential.clone()).unwrap();
        assert!(!all_of(&embed(&embedder).await.unwrap_err()).contains(KEY));
        assert!(!format!("{credential:?}").contains(KEY));
    }
    // A token that can not be a header.
    struct Lines;
    impl TokenSource for Lines {
        fn token(&self, _: bool) -> BoxFuture<'_, Result<String, Box<dyn StdError + Send + Sync>>> {
            Box::pin(async { Ok(format!("{KEY}\r\nx: y")) })
        }
    }
    let service = Service::start([Reply::Vectors]).await;
    let error = embed(&service.embedder_with(Credential::Token(Arc::new(Lines)), |_| ())).await.unwrap_err();
    assert!(matches!(error, EmbeddingError::Credential(_)));
    assert!(!all_of(&error).contains(KEY));
    assert_eq!(service.requests(), 0);
}
