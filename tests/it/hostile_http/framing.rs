//! Where a request ends: bodies of a wrong size, lengths that lie, and the shapes by which one request is smuggled in
//! another (RFC 9112 section 11.2).

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::raw::{BOUND, RawAnswer, Served, answers, head, post, read_to_close};

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;

/// `LIST`, chunked, with its end.
fn chunked() -> String {
    format!("{:x}\r\n{LIST}\r\n0\r\n\r\n", LIST.len())
}

/// What a client gets that says no more after this.
async fn half_closed(server: &Served, sent: impl AsRef<[u8]>) -> Vec<RawAnswer> {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(sent.as_ref()).await.unwrap();
    stream.shutdown().await.unwrap();
    answers(&timeout(BOUND, read_to_close(&mut stream)).await.expect("a close"))
}

#[tokio::test]
async fn bodies_have_a_largest_size_however_they_come() {
    let server = Served::start(&[("ROWGATE_BODY_BYTES", "4096")]).await;
    let padded = |length: usize| format!("{LIST}{}", " ".repeat(length - LIST.len()));
    assert_eq!(server.ask(post(padded(4096), "")).await.status, 200);
    assert_eq!(server.ask(post(padded(4097), "")).await.refusal(), (413, -32600));
    // Its length is enough, whatever comes of it.
    for length in ["4097", "1000000000000", "18446744073709551615"] {
        let answered = server.exchange(format!("{}Content-Length: {length}\r\n\r\n", head())).await;
        assert!(matches!(answered[..], [RawAnswer { status: 413 | 431, .. }]), "{length}: {answered:?}");
    }
    let chunks = |count: usize| {
        let chunks = format!("400\r\n{}\r\n", " ".repeat(1024)).repeat(count);
        format!("{}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}{}", head(), chunked())
    };
    assert_eq!(server.ask(chunks(3)).await.status, 200);
    assert_eq!(server.ask(chunks(4)).await.refusal(), (413, -32600));
    // Far more than that is not read.
    let answered = server.exchange(chunks(20_000)).await;
    assert!(answered.iter().all(|answer| answer.status == 413), "{answered:?}");
    server.ends_well().await;
}

#[tokio::test]
async fn bodies_that_break_off_are_let_go() {
    let server = Served::start(&[]).await;
    let with = |headers: &str, body: &str| format!("{}{headers}\r\n\r\n{body}", head());
    for sent in [
        with("Content-Length: 100", LIST),
        with("Content-Length: 100", ""),
        with("Transfer-Encoding: chunked", ""),
        with("Transfer-Encoding: chunked", "2e"),
        with("Transfer-Encoding: chunked", "2e\r\n{"),
        with("Transfer-Encoding: chunked", &chunked().replace("0\r\n\r\n", "")),
        with("Transfer-Encoding: chunked", &chunked().replace("0\r\n\r\n", "0\r\n")),
        head(),
        "POST".to_owned(),
        String::new(),
    ] {
        let answered = half_closed(&server, &sent).await;
        assert!(answered.iter().all(|answer| answer.status == 400), "{sent}: {answered:?}");
    }
    for size in ["x", "-1", "", "ffffffffffffffffff", "2e 2e", "0x2e"] {
        let sent = with("Transfer-Encoding: chunked", &chunked().replacen("2e", size, 1));
        let answered = server.exchange(sent).await;
        assert!(answered.iter().all(|answer| answer.status == 400), "{size}: {answered:?}");
    }
    let extended = with("Connection: close\r\nTransfer-Encoding: chunked", &chunked().replacen("2e", "2e;a=b", 1));
    assert_eq!(server.ask(extended).await.status, 200);
    let endless = with("Transfer-Encoding: chunked", &format!("2e;{}", "a".repeat(1_000_000)));
    assert!(server.exchange(endless).await.iter().all(|answer| answer.status == 400));
    let trailers = format!("0\r\n{}\r\n", "a: b\r\n".repeat(10_000));
    let trailing = with("Transfer-Encoding: chunked", &chunked().replace("0\r\n\r\n", &trailers));
    assert!(server.exchange(trailing).await.iter().all(|answer| answer.status == 400));
    server.ends_well().await;
}

#[tokio::test]
async fn a_request_in_a_request_is_never_answered() {
    let server = Served::start(&[]).await;
    let inner = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let with = |headers: &str, body: &str| format!("{}{headers}\r\n\r\n{body}{inner}", head());
    let length = LIST.len();
    for (headers, body) in [
        // Chunks count, and the connection ends (RFC 9112 section 6.1).
        (format!("Content-Length: {length}\r\nTransfer-Encoding: chunked"), chunked()),
        (format!("Transfer-Encoding: chunked\r\nContent-Length: {length}"), chunked()),
        ("Content-Length: 4\r\nTransfer-Encoding: chunked".to_owned(), "0\r\n\r\n".to_owned()),
        ("Transfer-Encoding: xchunked".to_owned(), chunked()),
        ("Transfer-Encoding: chunked, identity".to_owned(), chunked()),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity".to_owned(), chunked()),
        ("Transfer-Encoding : chunked".to_owned(), chunked()),
        ("Transfer-Encoding:\u{b}chunked".to_owned(), chunked()),
        (format!("Content-Length: {length}\r\nContent-Length: 0"), LIST.to_owned()),
        (format!("Content-Length: {length}, {length}"), LIST.to_owned()),
        (format!("Content-Length: +{length}"), LIST.to_owned()),
        ("Content-Length: -1".to_owned(), LIST.to_owned()),
        ("Content-Length: 0x2e".to_owned(), LIST.to_owned()),
        (format!("Content-Length : {length}"), LIST.to_owned()),
        (format!("Content-Length: {length}\r\n folded: yes"), LIST.to_owned()),
        (format!("x-a: b\r\n\tc\r\nContent-Length: {length}"), LIST.to_owned()),
        (format!("x-a: b\rc\r\nContent-Length: {length}"), LIST.to_owned()),
        (format!("x-a: b\0c\r\nContent-Length: {length}"), LIST.to_owned()),
    ] {
        let answered = server.exchange(with(&headers, &body)).await;
        assert_eq!(answered.len(), 1, "{headers}: {answered:?}");
        assert!([200, 400].contains(&answered[0].status), "{headers}: {answered:?}");
        assert!(!answered[0].body.ends_with(b"\"version\":\"0.1.0\"}"), "{headers}");
    }
    // A length that is too short leaves something that is no request.
    let answered = server.exchange(format!("{}Content-Length: {}\r\n\r\n{LIST}", head(), length - 1)).await;
    assert_eq!(answered.iter().map(|answer| answer.status).collect::<Vec<_>>(), [400, 400]);
    server.ends_well().await;
}

#[tokio::test]
async fn other_protocols_are_closed() {
    let server = Served::start(&[]).await;
    for sent in [
        "GET /\r\n\r\n",
        "GET / HTTP/0.9\r\n\r\n",
        "GET / HTTP/1.2\r\n\r\n",
        "GET / HTTP/2.0\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0",
        "\u{16}\u{3}\u{1}\0\u{5}hello\r\n\r\n",
        "EHLO localhost\r\n\r\n",
        "\0\0\0\u{8}\u{4}\u{2}\u{16}\u{2f}\r\n\r\n",
        "GET / HTTP/1.1 HTTP/1.1\r\n\r\n",
        "GET\t/\tHTTP/1.1\r\n\r\n",
        "{}\r\n\r\n",
    ] {
        let answered = half_closed(&server, sent).await;
        assert!(answered.iter().all(|answer| [400, 505].contains(&answer.status)), "{sent:?}: {answered:?}");
    }
    // A bare line feed may end a line (RFC 9112 section 2.2), and lines before the first may be empty.
    for sent in ["GET /healthz HTTP/1.1\nConnection: close\n\n", "\r\n\r\nGET /healthz HTTP/1.0\r\n\r\n"] {
        assert_eq!(server.ask(sent).await.status, 200, "{sent:?}");
    }
    server.ends_well().await;
}
