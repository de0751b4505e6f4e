//! How much memory a call asks for, all of it: request, database, answer. Counted, not timed, so it is the same on every
//! machine but for the odd allocation of a runtime. A test binary of its own, since it counts for the whole process.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "`support` is the integration tests', and this needs little of it"
)]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "it/support/mod.rs"]
mod support;

use std::alloc::System;
use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use support::{SEATTLE, TestServer};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CALLS: usize = 200;

/// Allocations and reallocations of a call of twenty rows and seven columns, and the bytes of them, a little above what
/// they are.
const MOST: usize = 330;
const MOST_BYTES: usize = 132_000;

const QUERY: &str =
    "select n as sale_id, date '2024-03-01' + n as sold_on, 'Cordless Drill Driver 20V ' || n as product,
    1 + n % 5 as quantity, round(89.95 + n, 2) as unit_price, round(n % 4 * 1.25, 2) as discount,
    round((89.95 + n) * (1 + n % 5), 2) as total from generate_series(1, 20) n";

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_call_asks_for_little_memory() {
    let server = TestServer::start().await;
    let address = server.url.strip_prefix("http://").unwrap().to_owned();
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "execute_sales_query", "arguments": { "postgresql_query": QUERY } } })
    .to_string();
    let request = format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json, \
         text/event-stream\r\nx-rls-user-id: {SEATTLE}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let counted = tokio::task::spawn_blocking(move || {
        let mut client = TcpStream::connect(address).unwrap();
        let mut buffer = vec![0; 1 << 16];
        // The first calls fill what is kept.
        for _ in 0..20 {
            ask(&mut client, &request, &mut buffer);
        }
        let region = Region::new(ALLOCATOR);
        for _ in 0..CALLS {
            ask(&mut client, &request, &mut buffer);
        }
        region.change()
    });
    let counted = counted.await.unwrap();
    let calls = (counted.allocations + counted.reallocations) / CALLS;
    let bytes = counted.bytes_allocated / CALLS;
    println!("a call: {calls} allocations, {bytes} bytes");
    assert!(
        calls <= MOST && bytes <= MOST_BYTES,
        "a call takes {calls} allocations and {bytes} bytes; {MOST} and {MOST_BYTES} are the most. Find where they come \
         from with `valgrind --tool=dhat`, or, if they have to be, raise the bounds in tests/allocations.rs and say why."
    );
}

/// One call over a kept connection, without an allocation of its own.
fn ask(client: &mut TcpStream, request: &str, buffer: &mut [u8]) {
    client.write_all(request.as_bytes()).unwrap();
    let mut read = 0;
    loop {
        read += client.read(&mut buffer[read..]).unwrap();
        let Some(head) = buffer[..read].windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let text = std::str::from_utf8(&buffer[..head]).unwrap();
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        let length = text.split("content-length: ").nth(1).unwrap().split('\r').next().unwrap();
        if read >= head + 4 + length.parse::<usize>().unwrap() {
            let body = std::str::from_utf8(&buffer[head + 4..read]).unwrap();
            assert!(body.contains("\"row_count\":20"), "{body}");
            return;
        }
    }
}
