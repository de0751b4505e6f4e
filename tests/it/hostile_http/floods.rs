//! Many at once: connections, requests, and clients that never finish or never read. Others are served meanwhile, and
//! memory has a bound.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::raw::{BOUND, Served, answers, head, post, read_to_close};

async fn connected(server: &Served, count: usize) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..count {
        streams.push(timeout(BOUND, TcpStream::connect(server.address)).await.expect("a connection").unwrap());
    }
    streams
}

/// Connections that each send this and then nothing.
async fn stalled(server: &Served, count: usize, sent: &[u8]) -> Vec<TcpStream> {
    let mut streams = connected(server, count).await;
    for stream in &mut streams {
        let _ = stream.write_all(sent).await;
    }
    streams
}

#[tokio::test]
async fn half_requests_keep_nobody_from_being_served() {
    let server = Served::start(&[]).await;
    let (before, _) = server.memory();
    let promised = format!("{}Content-Length: 1000000\r\n\r\n{{", head());
    let long = format!("{}x-long: {}", head(), "x".repeat(120_000));
    for sent in [head().as_bytes(), promised.as_bytes(), long.as_bytes()] {
        let mut streams = stalled(&server, 200, sent).await;
        server.answers_as_ever().await;
        for stream in &mut streams {
            let _ = stream.write_all(b"x").await;
        }
        server.answers_as_ever().await;
    }
    let (_, most) = server.memory();
    assert!(most < before + 128, "{before} MB became {most} MB");
    server.ends_well().await;
}

#[tokio::test]
async fn more_connections_than_there_are_places_for() {
    let server = Served::start(&[]).await;
    let (before, _) = server.memory();
    let half = head();
    let promised = format!("{}Content-Length: 1000000\r\n\r\n{{", head());
    for (count, sent) in [(1_000, ""), (600, &half), (600, &promised)] {
        let mut streams = stalled(&server, count, sent.as_bytes()).await;
        server.answers_as_ever().await;
        // The first have made room.
        let first = timeout(BOUND, read_to_close(&mut streams[0])).await.expect("a close");
        assert!(answers(&first).is_empty());
        server.answers_as_ever().await;
    }
    let (_, most) = server.memory();
    assert!(most < before + 64, "{before} MB became {most} MB");
    server.ends_well().await;
}

#[tokio::test]
async fn a_thousand_requests_in_one_go_are_answered_in_their_order() {
    let server = Served::start(&[]).await;
    let (before, _) = server.memory();
    let request = |id: usize| {
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": "ping" }).to_string();
        let end = if id == 999 { "Connection: close\r\n" } else { "" };
        format!("{}{end}Content-Length: {}\r\n\r\n{body}", head(), body.len())
    };
    let answered = server.exchange((0..1_000).map(request).collect::<String>()).await;
    let ids: Vec<_> = answered.iter().map(|answer| answer.json()["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, (0..1_000).collect::<Vec<_>>());
    let (_, most) = server.memory();
    assert!(most < before + 64, "{before} MB became {most} MB");
    server.ends_well().await;
}

#[tokio::test]
async fn answers_that_nobody_reads_are_bounded() {
    let server = Served::start(&[("ROWGATE_RESULT_BYTES", "1048576"), ("ROWGATE_POOL_WAIT_SECONDS", "60")]).await;
    server.answers_as_ever().await;
    let (before, _) = server.memory();
    let sql = "select repeat('x', 1000) from generate_series(1, 900)";
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "execute_sales_query", "arguments": { "postgresql_query": sql, "max_rows": 1000 } } });
    let request = String::from_utf8(post(call.to_string(), "")).unwrap().replace("Connection: close\r\n", "");
    // Each asks ten times, and reads nothing.
    let mut streams = connected(&server, 16).await;
    let sending = streams.iter_mut().map(async |stream| {
        let _ = timeout(Duration::from_secs(2), stream.write_all(request.repeat(10).as_bytes())).await;
        // The first answer has begun.
        stream.peek(&mut [0]).await
    });
    assert!(join_all(sending).await.iter().all(Result::is_ok));
    server.answers_as_ever().await;
    let (_, most) = server.memory();
    assert!(most < before + 200, "{before} MB became {most} MB");
    // Who reads after all gets all of it.
    let mut stream = streams.pop().unwrap();
    let mut begun = [0; 12];
    stream.read_exact(&mut begun).await.unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200");
    drop((stream, streams));
    server.ends_well().await;
}

#[tokio::test]
async fn clients_that_come_and_go_leave_nothing_behind() {
    let server = Served::start(&[]).await;
    server.answers_as_ever().await;
    let (before, _) = server.memory();
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "execute_sales_query", "arguments": { "postgresql_query": "select pg_catalog.count(*) from orders" } } });
    let request = post(call.to_string(), "");
    for cut in [1, 40, request.len() / 2, request.len() - 1, request.len()] {
        for stream in stalled(&server, 100, &request[..cut]).await {
            // Gone without a goodbye.
            stream.set_zero_linger().unwrap();
        }
        server.answers_as_ever().await;
    }
    let (after, _) = server.memory();
    assert!(after < before + 64, "{before} MB became {after} MB");
    server.ends_well().await;
}
