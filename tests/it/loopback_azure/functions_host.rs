//! The functions host: with a handler that tells what reached it, and with Rowgate.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::again;
use crate::support::SEATTLE;
use crate::support::functions_host::{
    EasyAuth, FunctionsHost, HostOptions, Principal, Severity, function_json, host_json, package_of,
};

/// A package of this program, as the handler below.
fn echo() -> TempDir {
    let (program, arguments) =
        again("loopback_azure::functions_host::requests_reach_the_handler_as_they_are_and_marked_by_the_host");
    let mut host = host_json();
    host["customHandler"]["description"]["arguments"] = json!(arguments);
    package_of(&host, &program)
}

fn settings(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The handler, which tells what reached it.
async fn handle(port: u16) {
    eprintln!("WARNING: about to listen");
    eprintln!("nothing failed yet");
    eprintln!("just a line");
    let tell = async |request: Request| {
        let (parts, body) = request.into_parts();
        let header = |(name, value): (_, &axum::http::HeaderValue)| (format!("{name}"), json!(value.to_str().unwrap()));
        let headers: Map<String, Value> = parts.headers.iter().map(header).collect();
        println!("{} {}", parts.method, parts.uri);
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let environment: Map<String, Value> = std::env::vars().map(|(name, value)| (name, json!(value))).collect();
        let told = json!({ "method": parts.method.as_str(), "target": parts.uri.to_string(), "headers": headers,
            "body": String::from_utf8_lossy(&body), "environment": environment });
        ([("connection", "close"), ("x-told", "yes")], told.to_string()).into_response()
    };
    let stream = async |request: Request| -> Response { Response::new(request.into_body()) };
    let hang = async || -> Response { std::future::pending().await };
    let stall = async || Response::new(Body::from_stream(futures_util::stream::pending::<std::io::Result<Vec<u8>>>()));
    let crash = async || -> Response { std::process::abort() };
    let router = Router::new()
        .route("/stream", any(stream))
        .route("/hang", any(hang))
        .route("/stall", any(stall))
        .route("/crash", any(crash))
        .fallback(any(tell));
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    axum::serve(listener, router).await.unwrap();
}

async fn told(response: reqwest::Response) -> Value {
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

#[tokio::test]
async fn requests_reach_the_handler_as_they_are_and_marked_by_the_host() {
    // In the process that the host starts, this is the handler.
    if let Ok(port) = std::env::var("FUNCTIONS_CUSTOMHANDLER_PORT") {
        return handle(port.parse().unwrap()).await;
    }
    let package = echo();
    let host = FunctionsHost::start(package.path(), &settings(&[("AN_APP_SETTING", "1")])).await.unwrap();
    let client = reqwest::Client::new();
    let request = client
        .post(format!("{}/a/b%20c?d=e&f", host.url()))
        .header("host", "app.azurewebsites.net")
        .header("connection", "x-private")
        .header("x-private", "for one hop")
        .header("x-azure-functions-invocationid", "forged")
        .header("x-ms-client-principal-id", "forged")
        .body("hello");
    let response = request.send().await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["x-told"]), (200, &"yes".parse().unwrap()));
    let told = told(response).await;
    let headers = &told["headers"];
    assert_eq!(
        (&told["method"], &told["target"], &told["body"]),
        (&json!("POST"), &json!("/a/b%20c?d=e&f"), &json!("hello"))
    );
    assert_eq!((&headers["host"], &headers["content-length"]), (&json!("app.azurewebsites.net"), &json!("5")));
    assert_eq!((&headers["connection"], &headers["x-private"]), (&Value::Null, &Value::Null));
    assert_eq!(headers["x-azure-functions-invocationid"].as_str().unwrap().len(), 36);
    assert_eq!((&headers["x-forwarded-proto"], &headers["x-forwarded-host"]), (&json!("https"), &headers["host"]));
    assert!(headers["x-forwarded-for"].as_str().unwrap().starts_with("127.0.0.1:"));
    // Without Easy Auth nobody takes away what claims to come from it.
    assert_eq!(headers["x-ms-client-principal-id"], "forged");

    // The environment is what the platform gives, and nothing of ours.
    let environment = told["environment"].as_object().unwrap();
    let mut names: Vec<&str> = environment.keys().map(String::as_str).collect();
    names.sort_unstable();
    let platform = [
        "AN_APP_SETTING",
        "FUNCTIONS_APP_ROOT_PATH",
        "FUNCTIONS_CUSTOMHANDLER_PORT",
        "FUNCTIONS_CUSTOMHANDLER_WORKER_ID",
        "FUNCTIONS_HTTPWORKER_PORT",
        "PATH",
    ];
    assert_eq!(names, platform);

    // The host's own paths, and the home page that is on unless it is switched off.
    let status = async |path: &str| client.get(format!("{}{path}", host.url())).send().await.unwrap().status().as_u16();
    let before = host.delivered();
    assert_eq!(
        (status("/admin/host/status").await, status("/runtime/webhooks/mcp").await, status("/").await),
        (404, 404, 200)
    );
    let trace = client.request(reqwest::Method::TRACE, format!("{}/a", host.url())).send().await.unwrap();
    assert_eq!((trace.status().as_u16(), host.delivered()), (404, before));
    assert_eq!((status("/administration").await, host.delivered()), (200, before + 1));

    let of = |severity| move |line: &&crate::support::functions_host::LogLine| line.severity == severity;
    // What the handler wrote last may still be on its way.
    let last = "POST /a/b%20c?d=e&f";
    while !host.log().iter().any(|line| line.text == last) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let log = host.log();
    let one = |severity| log.iter().find(of(severity)).map(|line| line.text.clone());
    assert_eq!(one(Severity::Warning).as_deref(), Some("WARNING: about to listen"));
    assert_eq!(one(Severity::Error).as_deref(), Some("nothing failed yet"));
    assert!(log.iter().any(|line| line.text == "just a line" && line.severity == Severity::Information));
}

#[tokio::test]
async fn a_post_can_come_twice_and_streams_in_both_directions() {
    let package = echo();
    let settings = settings(&[("AzureWebJobsDisableHomepage", "true")]);
    let host = FunctionsHost::start(package.path(), &settings).await.unwrap();
    let client = reqwest::Client::new();
    let root = told(client.get(format!("{}/", host.url())).send().await.unwrap()).await;
    assert_eq!((&root["target"], host.delivered()), (&json!("/"), 1));
    host.deliver_twice(true);
    let twice = told(client.post(format!("{}/x", host.url())).body("hello").send().await.unwrap()).await;
    assert_eq!((&twice["body"], host.delivered()), (&json!("hello"), 3));
    client.get(format!("{}/x", host.url())).send().await.unwrap();
    assert_eq!(host.delivered(), 4);
    host.deliver_twice(false);

    // Each piece comes back before the next one is sent.
    let mut stream = TcpStream::connect(host.url().strip_prefix("http://").unwrap()).await.unwrap();
    stream.write_all(b"POST /stream HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
    for piece in ["first", "other"] {
        stream.write_all(format!("5\r\n{piece}\r\n").as_bytes()).await.unwrap();
        let mut seen = Vec::new();
        while !seen.windows(5).any(|part| part == piece.as_bytes()) {
            seen.push(stream.read_u8().await.unwrap());
        }
    }
    assert_eq!(host.delivered(), 5);
}

#[tokio::test]
async fn a_handler_that_says_nothing_is_given_up() {
    let package = echo();
    let options = HostOptions { activity_timeout: Duration::from_millis(200), ..Default::default() };
    let host = FunctionsHost::start_with(package.path(), &[], options).await.unwrap();
    let get = async |path: &str| reqwest::get(format!("{}{path}", host.url())).await.unwrap();
    assert_eq!(get("/hang").await.status(), 504);
    let stalled = get("/stall").await;
    assert_eq!(stalled.status(), 200);
    stalled.bytes().await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_handler_is_started_again_twice() {
    let package = echo();
    let host = FunctionsHost::start(package.path(), &[]).await.unwrap();
    let get = async |path: &str| reqwest::get(format!("{}{path}", host.url())).await.unwrap();
    assert_eq!((get("/x").await.status().as_u16(), host.starts()), (200, 1));
    // Retries go to the next process, and crash it as well, until the host gives up.
    while !host.is_shut_down() {
        let response = get("/crash").await;
        assert!([502, 503].contains(&response.status().as_u16()), "{response:?}");
    }
    assert_eq!((host.is_shut_down(), host.starts(), host.handler_pid()), (true, 3, None));
    assert_eq!(get("/x").await.status(), 503);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_during_a_restart_waits_and_no_handler_survives_its_host() {
    let package = echo();
    let host = FunctionsHost::start(package.path(), &[]).await.unwrap();
    let first = host.handler_pid().unwrap();
    let killed = std::process::Command::new("kill").args(["-KILL", &first.to_string()]).status().unwrap();
    assert!(killed.success());
    let deadline = Instant::now() + Duration::from_secs(20);
    while host.starts() < 2 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The new process does not listen yet.
    let response = reqwest::Client::new().post(format!("{}/x", host.url())).body("hello").send().await.unwrap();
    assert_eq!((response.status().as_u16(), &told(response).await["body"]), (200, &json!("hello")));
    host.settled(2).await;
    let second = host.handler_pid().unwrap();
    assert!(runs(second) && !runs(first));
    host.stop();
    assert!(!runs(second) && host.is_shut_down());

    let host = FunctionsHost::start(package.path(), &[]).await.unwrap();
    let third = host.handler_pid().unwrap();
    let hanging = tokio::spawn(reqwest::get(format!("{}/hang", host.url())));
    drop(host);
    assert!(!runs(third));
    hanging.abort();
}

fn runs(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

#[tokio::test]
async fn a_function_that_wants_a_key_answers_nobody() {
    let package = echo();
    let mut function = function_json();
    function["bindings"][0]["authLevel"] = json!("function");
    function["bindings"][0]["route"] = json!("a/{b}");
    fs::write(package.path().join("function/function.json"), function.to_string()).unwrap();
    let host = FunctionsHost::start(package.path(), &[]).await.unwrap();
    let status = async |path: &str| reqwest::get(format!("{}{path}", host.url())).await.unwrap().status().as_u16();
    assert_eq!((status("/a/x").await, status("/a").await, status("/a/x/y").await), (401, 404, 404));
}

#[tokio::test]
async fn easy_auth_lets_known_callers_pass_and_says_who_they_are() {
    let package = echo();
    let options = HostOptions { easy_auth: EasyAuth::on(), ..Default::default() };
    let app = settings(&[("WEBSITE_AUTH_PRM_DEFAULT_WITH_SCOPES", "api://app/user_impersonation")]);
    let host = FunctionsHost::start_with(package.path(), &app, options).await.unwrap();
    let principal = Principal {
        object_id: SEATTLE.into(),
        name: "sam@zava.example".into(),
        claims: vec![("roles".into(), "reader".into())],
    };
    host.easy_auth().know("a-token", principal);
    let client = reqwest::Client::new();
    let request = || client.post(format!("{}/mcp", host.url())).header("host", "app.azurewebsites.net");
    for request in [request(), request().bearer_auth("unknown"), request().header("x-ms-client-principal-id", "me")] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 401);
        let challenge = response.headers()["www-authenticate"].to_str().unwrap().to_owned();
        let metadata = "https://app.azurewebsites.net/.well-known/oauth-protected-resource/mcp";
        assert!(challenge.starts_with("Bearer ") && challenge.contains(metadata), "{challenge}");
    }
    assert_eq!(host.delivered(), 0);
    let request = request()
        .bearer_auth("a-token")
        .header("x-ms-client-principal-id", "me")
        .header("x-ms-client-principal-x", "me");
    let told = told(request.send().await.unwrap()).await;
    let headers = &told["headers"];
    assert_eq!(
        (&headers["x-ms-client-principal-id"], &headers["x-ms-client-principal-x"]),
        (&json!(SEATTLE), &Value::Null)
    );
    assert_eq!(
        (&headers["x-ms-client-principal-idp"], &headers["authorization"]),
        (&json!("aad"), &json!("Bearer a-token"))
    );
    let text = headers["x-ms-client-principal"].as_str().unwrap();
    let text = STANDARD.decode(text).unwrap();
    let principal: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!((&principal["auth_typ"], &principal["claims"][0]["val"]), (&json!("aad"), &json!(SEATTLE)));
    assert!(principal["claims"].as_array().unwrap().contains(&json!({ "typ": "roles", "val": "reader" })));
    assert_eq!(told["environment"]["WEBSITE_AUTH_ENABLED"], "True");

    let url = format!("{}/.well-known/oauth-protected-resource/mcp", host.url());
    let metadata: Value = client.get(url).send().await.unwrap().json().await.unwrap();
    assert_eq!(metadata["scopes_supported"], json!(["api://app/user_impersonation"]));
}
