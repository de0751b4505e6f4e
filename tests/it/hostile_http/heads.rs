//! Request lines and headers: too many, too long, twice, or not what this server answers to.

use crate::support::raw::{RawAnswer, Served, head, post};

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;

#[tokio::test]
async fn heads_have_a_largest_size() {
    let server = Served::start(&[]).await;
    let (before, _) = server.memory();
    let end = format!("Connection: close\r\nContent-Length: {}\r\n\r\n{LIST}", LIST.len());
    let flood = "x-flood: x\r\n".repeat(10_000);
    let long = format!("x-long: {}\r\n", "x".repeat(1_000_000));
    let name = format!("{}: x\r\n", "x".repeat(1_000_000));
    for headers in [flood, long, name] {
        for _ in 0..8 {
            let answered = server.exchange(format!("{}{headers}{end}", head())).await;
            // Where it stops reading before all was sent, the answer may be lost with the connection.
            assert!(answered.iter().all(|answer| [400, 431].contains(&answer.status)), "{answered:?}");
        }
    }
    for path in ["x".repeat(1_000_000), format!("?{}", "x=%00&".repeat(20_000)), "%".repeat(100_000)] {
        let answered = server.exchange(format!("GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        assert!(answered.iter().all(|answer| [400, 404, 414, 431].contains(&answer.status)), "{answered:?}");
    }
    let (_, most) = server.memory();
    assert!(most < before + 64, "{before} MB became {most} MB");
    // What Easy Auth sends has room.
    let principal = format!("x-ms-client-principal: {}\r\n", "A".repeat(60_000));
    assert_eq!(server.ask(post(LIST, &principal)).await.status, 200);
    server.ends_well().await;
}

#[tokio::test]
async fn hosts_and_origins_are_checked_and_there_is_one_of_each() {
    let server = Served::start(&[("ROWGATE_ALLOWED_ORIGINS", "https://app.example.com:443")]).await;
    let asked = async |hosts: &[&str], origins: &[&str]| -> RawAnswer {
        let request = String::from_utf8(post(LIST, "")).unwrap();
        let hosts: String = hosts.iter().map(|host| format!("Host: {host}\r\n")).collect();
        let origins: String = origins.iter().map(|origin| format!("Origin: {origin}\r\n")).collect();
        server.ask(request.replace("Host: localhost\r\n", &format!("{hosts}{origins}"))).await
    };
    for host in ["localhost", "LOCALHOST:1", "127.0.0.1:80", "[::1]", "[::1]:8000"] {
        assert_eq!(asked(&[host], &[]).await.status, 200, "{host}");
    }
    for host in [
        "",
        " ",
        "evil.example.com",
        "localhost.evil.example.com",
        "localhost@evil.example.com",
        "evil.example.com:80",
        "127.0.0.1.evil.example.com",
        "0",
        "localhost,evil.example.com",
        "localhost/..",
        "[::1",
        "%00",
        "lo\u{e9}alhost",
        "\u{130}",
    ] {
        let refused = asked(&[host], &[]).await;
        assert!([400, 403].contains(&refused.status), "{host:?}: {refused:?}");
        refused.refusal();
    }
    for hosts in [&[][..], &["localhost", "localhost"], &["localhost", "evil.example.com"], &["evil.example.com"; 2]] {
        assert_eq!(asked(hosts, &[]).await.refusal(), (400, -32600), "{hosts:?}");
    }
    let host = &["localhost"];
    assert_eq!(asked(host, &["https://app.example.com"]).await.status, 200);
    for origin in [
        "null",
        "",
        "https://evil.example.com",
        "http://app.example.com",
        "https://app.example.com.evil",
        "https://app.example.com@evil.example.com",
        "https://app.example.com:8443",
        "app.example.com",
        "\u{e9}",
    ] {
        assert_eq!(asked(host, &[origin]).await.refusal(), (403, -32600), "{origin:?}");
    }
    for origins in [["https://app.example.com"; 2], ["https://app.example.com", "https://evil.example.com"]] {
        assert_eq!(asked(host, &origins).await.refusal(), (400, -32600), "{origins:?}");
    }
    server.ends_well().await;
}

#[tokio::test]
async fn methods_and_media_types_that_mcp_does_not_have() {
    let server = Served::start(&[]).await;
    let request = String::from_utf8(post(LIST, "")).unwrap();
    for method in ["GET", "DELETE", "PUT", "PATCH", "OPTIONS", "TRACE", "BREW", "post", "P"] {
        let refused = server.ask(request.replacen("POST", method, 1)).await;
        assert_eq!((refused.refusal(), refused.header("allow")), ((405, -32600), Some("POST")), "{method}");
    }
    let connect = server.exchange("CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert!(connect.iter().all(|answer| answer.status >= 400), "{connect:?}");
    let json = "Content-Type: application/json\r\n";
    for (media_type, status) in [
        ("Content-Type: APPLICATION/JSON; charset=utf-8\r\n", 200),
        ("Content-Type: application/json;\r\n", 200),
        ("", 415),
        ("Content-Type: \r\n", 415),
        ("Content-Type: text/plain\r\n", 415),
        ("Content-Type: application/jsonx\r\n", 415),
        ("Content-Type: application/x-www-form-urlencoded\r\n", 415),
        ("Content-Type: multipart/form-data; boundary=x\r\n", 415),
        ("Content-Type: text/plain, application/json\r\n", 415),
        ("Content-Type: \u{e9}\r\n", 415),
    ] {
        let answer = server.ask(request.replace(json, media_type)).await;
        assert_eq!(answer.status, status, "{media_type}");
        assert!(answer.json().is_object());
    }
    let accept = "Accept: application/json, text/event-stream\r\n";
    for accepts in [
        "",
        "Accept: \r\n",
        "Accept: text/html\r\n",
        "Accept: application/json\r\n",
        "Accept: \u{e9}\r\n",
        "Accept: application/json;q=0, text/event-stream\r\n",
    ] {
        assert_eq!(server.ask(request.replace(accept, accepts)).await.refusal(), (406, -32600), "{accepts}");
    }
    // Expecting something is no reason to wait for it.
    let expecting = server.exchange(request.replace(accept, &format!("{accept}Expect: 100-continue\r\n"))).await;
    assert_eq!(expecting.iter().map(|answer| answer.status).collect::<Vec<_>>(), [100, 200]);
    for path in ["/mcp/", "/mcp/../mcp", "//mcp", "/MCP", "/%6dcp", "/mcp%00", "/.env", "/mcp?x=../../etc/passwd"] {
        let answer = server.ask(request.replacen("/mcp", path, 1)).await;
        assert!([200, 404].contains(&answer.status), "{path}: {answer:?}");
    }
    server.ends_well().await;
}
