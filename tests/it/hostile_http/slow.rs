//! Clients that take their time, on a clock that goes on by itself while everybody waits: how long each is borne with.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rowgate::app::{App, Azure};
use rowgate::config::Settings;
use rowgate::domain::Profile;
use rowgate::identity::SigningKey;
use rowgate::retail;
use rowgate::telemetry::Telemetry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::support::raw::{RawAnswer, answers, head, read_to_close};

/// A server whose database is away.
struct Server {
    address: SocketAddr,
    end: Arc<Notify>,
    serving: JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        let pairs = [
            ("ROWGATE_DATABASE_URL", "postgres://rowgate_app@127.0.0.1:9/x".to_owned()),
            ("ROWGATE_CLAIM_KEYS", SigningKey::generate("k").unwrap()),
            ("ROWGATE_IDENTITY", "trusted-header".to_owned()),
            ("ROWGATE_PORT", "0".to_owned()),
        ];
        let settings = Settings::read(pairs.map(|(name, value)| (name.to_owned(), value)).into()).unwrap();
        let azure = Azure::new(&settings);
        let app = App::build(settings, Profile::parse(retail::PROFILE).unwrap(), None, &azure, &Telemetry::default())
            .unwrap();
        let listener = app.listen().await.unwrap();
        let (address, end) = (listener.address(), Arc::new(Notify::new()));
        let ended = Arc::clone(&end);
        Self { address, end, serving: tokio::spawn(app.serve(listener, async move { ended.notified().await })) }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends the first at once, the second a byte a second, and says what came of it and how long that took.
    async fn dribble(&self, at_once: &str, slowly: &str) -> (Vec<RawAnswer>, u64) {
        let (mut from, mut to) = self.connect().await.into_split();
        let began = Instant::now();
        to.write_all(at_once.as_bytes()).await.unwrap();
        let writing = async {
            for byte in slowly.as_bytes() {
                sleep(Duration::from_secs(1)).await;
                if to.write_all(&[*byte]).await.is_err() {
                    break;
                }
            }
            std::future::pending::<()>().await;
        };
        let received = tokio::select! {
            received = read_to_close(&mut from) => received,
            () = writing => unreachable!(),
        };
        (answers(&received), began.elapsed().as_secs())
    }
}

#[tokio::test(start_paused = true)]
async fn a_byte_a_second_is_too_slow() {
    let server = Server::start().await;
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let length = format!("{}Content-Length: {}\r\n\r\n", head(), list.len());
    // Headers, and the pause before them.
    for (at_once, slowly) in [("", ""), ("", head().as_str()), ("GET / HTTP/1.1\r\n", "x-a: b")] {
        let (answered, seconds) = server.dribble(at_once, slowly).await;
        assert!(answered.is_empty() && (30..=31).contains(&seconds), "{at_once}: {answered:?} after {seconds} s");
    }
    let (answered, seconds) = server.dribble("GET /healthz HTTP/1.1\r\n\r\n", "G").await;
    assert!(answered.len() == 1 && (30..=32).contains(&seconds), "{answered:?} after {seconds} s");
    // A body.
    for (at_once, slowly) in [
        (length.clone(), list.to_owned()),
        (length, String::new()),
        (format!("{}Transfer-Encoding: chunked\r\n\r\n", head()), "1\r\n \r\n".repeat(20)),
        (format!("{}Expect: 100-continue\r\nContent-Length: 46\r\n\r\n", head()), String::new()),
    ] {
        let (answered, seconds) = server.dribble(&at_once, &slowly).await;
        assert_eq!(answered.last().unwrap().refusal(), (408, -32600));
        assert!((15..=16).contains(&seconds), "{seconds} s");
    }
    // Slow and in time.
    let begin = format!("{}Connection: close\r\nContent-Length: 46\r\n\r\n{}", head(), &list[..36]);
    let (answered, seconds) = server.dribble(&begin, &list[36..]).await;
    assert_eq!((answered[0].status, seconds), (200, 10));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_let_go() {
    let server = Server::start().await;
    let mut stream = server.connect().await;
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let request = format!("{}Content-Length: {}\r\n\r\n{list}", head(), list.len());
    // Until the answers fill every buffer on the way, the requests too, and the server has closed the connection.
    let began = Instant::now();
    while stream.write_all(request.repeat(64).as_bytes()).await.is_ok() {}
    assert!((30..=31).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn slow_clients_do_not_hold_up_the_end() {
    let server = Server::start().await;
    let mut streams = Vec::new();
    for sent in ["", "GET / HTTP/1.1\r\n", "GET /healthz HTTP/1.1\r\n\r\n", &head()] {
        let mut stream = server.connect().await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        if sent.contains("healthz") {
            stream.read_u8().await.unwrap();
        }
        streams.push(stream);
    }
    let began = Instant::now();
    server.end.notify_one();
    server.serving.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    for mut stream in streams {
        read_to_close(&mut stream).await;
    }
}
