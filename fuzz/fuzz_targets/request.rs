//! The way of a request from the socket to the tools, with a database that is away. Whatever comes in, what goes out is
//! HTTP, and JSON-RPC where the request is as MCP has it. The first byte chooses what of it is fuzzed.
#![no_main]

use std::cell::RefCell;
use std::sync::Arc;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use libfuzzer_sys::fuzz_target;
use rowgate::config::Settings;
use rowgate::db::Db;
use rowgate::domain::Profile;
use rowgate::identity::{SigningKeys, Verifier};
use rowgate::mcp::McpServer;
use rowgate::telemetry::Telemetry;
use rowgate::{http, retail};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

const HEAD: &str = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: application/json, text/event-stream\r\n\
                    Content-Type: application/json\r\nx-rls-user-id: f47ac10b-58cc-4372-a567-0e02b2c3d479\r\n";
const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;

thread_local! {
    /// Time goes on by itself here whenever there is nothing to do, so a half request is timed out at once.
    static SERVER: RefCell<(Runtime, Router)> = RefCell::new({
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let router = runtime.block_on(async { router() });
        (runtime, router)
    });
}

fn router() -> Router {
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let pairs = [
        ("ROWGATE_DATABASE_URL", format!("postgres://rowgate_app:secret@127.0.0.1:{nowhere}/x")),
        ("ROWGATE_BODY_BYTES", "2048".to_owned()),
    ];
    let settings = Settings::read(pairs.map(|(name, value)| (name.to_owned(), value)).into()).unwrap();
    let profile = Profile::parse(retail::PROFILE).unwrap();
    let keys = SigningKeys::parse("t:dGhpcyBzZWNyZXQgZ3VhcmRzIG5vdGhpbmcgYXQgYWxs").unwrap();
    let database = settings.database.app.clone().unwrap();
    let path = &profile.search_path;
    let db = Db::new(database, &settings.database, &settings.limits, path, Arc::new(Arc::new(keys)), None).unwrap();
    let server = McpServer::new(profile, db, None, settings.limits, false);
    let in_flight = Telemetry::default().in_flight();
    http::router(&settings.http, &settings.identity, Verifier::trusted_header(), server, settings.limits.call, in_flight)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (what, bytes) = input;
    let (sent, strict) = match what % 3 {
        // A body.
        0 => {
            let head = format!("{HEAD}Content-Length: {}\r\nConnection: close\r\n\r\n", bytes.len());
            ([head.as_bytes(), bytes].concat(), true)
        }
        // Headers.
        1 => {
            let end = format!("\r\nContent-Length: {}\r\n\r\n{LIST}", LIST.len());
            ([HEAD.as_bytes(), bytes, end.as_bytes()].concat(), false)
        }
        // Anything.
        _ => (bytes.to_vec(), false),
    };
    let received = SERVER.with_borrow_mut(|(runtime, router)| runtime.block_on(exchange(router.clone(), &sent)));
    let answer = check_head(&received);
    if strict {
        check_json_rpc(answer.expect("an answer"));
    }
});

/// All that the server sends until it closes the connection.
async fn exchange(router: Router, sent: &[u8]) -> Vec<u8> {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(std::time::Duration::from_secs(30));
    let serving = tokio::spawn(http.serve_connection(TokioIo::new(server), TowerToHyperService::new(router)));
    client.write_all(sent).await.unwrap();
    let mut received = Vec::new();
    client.read_to_end(&mut received).await.unwrap();
    let _ = serving.await.expect("no panic");
    received
}

struct Answer<'a> {
    status: u16,
    headers: Vec<(String, String)>,
    rest: &'a [u8],
}

/// The first answer, if anything was answered.
fn check_head(received: &[u8]) -> Option<Answer<'_>> {
    if received.is_empty() {
        return None;
    }
    let end = received.windows(4).position(|four| four == b"\r\n\r\n").expect("headers end");
    let head = std::str::from_utf8(&received[..end]).expect("headers are text");
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap();
    assert!(line.starts_with("HTTP/1.1 ") || line.starts_with("HTTP/1.0 "), "{line}");
    let status = line[9..12].parse().expect("a status");
    assert!((100..600).contains(&status) && status != 500, "{line}");
    let header = |line: &str| {
        let (name, value) = line.split_once(':').expect("a header");
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    Some(Answer { status, headers: lines.map(header).collect(), rest: &received[end + 4..] })
}

fn check_json_rpc(answer: Answer<'_>) {
    let header = |name: &str| answer.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let body = answer.rest;
    match header("content-type") {
        Some("application/json") => {
            assert_eq!(header("content-length"), Some(body.len().to_string().as_str()));
            let body: Value = serde_json::from_slice(body).expect("JSON");
            assert_eq!(body["jsonrpc"], "2.0", "{body}");
            assert!(body["result"].is_object() != body["error"].is_object(), "{body}");
        }
        Some("text/event-stream") => assert_eq!(answer.status, 200),
        Some(other) => panic!("{other}"),
        None => assert_eq!((answer.status, body), (202, &b""[..])),
    }
}
