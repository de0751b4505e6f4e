//! HTTP as nobody should speak it: bytes over a socket; and the program in a process of its own, whose memory and panics
//! are nobody else's.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{SEATTLE, TestDatabase, cluster};

/// Within this time everything is answered or closed; it only keeps a broken server from hanging the tests.
pub const BOUND: Duration = Duration::from_secs(60);

/// The program, serving.
pub struct Served {
    pub address: SocketAddr,
    child: Child,
    log: Arc<Mutex<String>>,
    _database: TestDatabase,
}

/// An answer, taken apart.
pub struct RawAnswer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Served {
    pub async fn start(settings: &[(&str, &str)]) -> Self {
        let database = TestDatabase::create().await;
        let mut command = Command::new(env!("CARGO_BIN_EXE_rowgate"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ROWGATE_")) {
            command.env_remove(name);
        }
        let mut child = command
            .arg("serve")
            .env("ROWGATE_DATABASE_URL", database.url())
            .env("ROWGATE_CLAIM_KEYS", &cluster().key_text)
            .env("ROWGATE_IDENTITY", "trusted-header")
            .env("FUNCTIONS_CUSTOMHANDLER_PORT", "0")
            .envs(settings.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let listening: Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let errors = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        for lines in [Box::new(lines) as Box<dyn Iterator<Item = String> + Send>, Box::new(errors)] {
            let log = Arc::clone(&log);
            std::thread::spawn(move || lines.for_each(|line| *log.lock().unwrap() += &format!("{line}\n")));
        }
        Self { address: listening["address"].as_str().unwrap().parse().unwrap(), child, log, _database: database }
    }

    /// Resident memory, in MB: now, and at most since the start.
    pub fn memory(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() / 1024
        };
        (of("VmRSS:"), of("VmHWM:"))
    }

    /// Sends this over a connection of its own, and reads what comes until the server closes it.
    pub async fn exchange(&self, sent: impl AsRef<[u8]>) -> Vec<RawAnswer> {
        let (mut from, mut to) = TcpStream::connect(self.address).await.unwrap().into_split();
        // A server that has had enough reads no more.
        let writing = async { to.write_all(sent.as_ref()).await };
        let reading = read_to_close(&mut from);
        let (_, received) = timeout(BOUND, async { tokio::join!(writing, reading) }).await.unwrap();
        answers(&received)
    }

    /// The same where there is one answer.
    pub async fn ask(&self, sent: impl AsRef<[u8]>) -> RawAnswer {
        let mut answers = self.exchange(sent).await;
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers.remove(0)
    }

    /// An ordinary call of an ordinary caller, all the way to the database.
    pub async fn answers_as_ever(&self) {
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": "execute_sales_query", "arguments": { "postgresql_query": "select 6 * 7" } } });
        let answer = self.ask(post(call.to_string(), "")).await.json();
        assert_eq!(answer["result"]["structuredContent"]["rows"], json!([[42]]), "{answer}");
    }

    /// The server still answers, ends when it is told to, and never panicked.
    pub async fn ends_well(mut self) {
        self.answers_as_ever().await;
        let told = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(told.success() && self.child.wait().unwrap().success());
        let log = self.log.lock().unwrap();
        assert!(!log.contains("panicked"), "{log}");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl std::fmt::Debug for RawAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(300)]);
        write!(f, "{} {:?} {body}", self.status, self.headers)
    }
}

impl RawAnswer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body of a JSON-RPC answer.
    pub fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(body["jsonrpc"], "2.0", "{body}");
        body
    }

    /// The status, and the code of a JSON-RPC error.
    pub fn refusal(&self) -> (u16, i64) {
        assert!(self.status >= 400, "{self:?}");
        let body = self.json();
        assert!(body["error"]["message"].as_str().is_some_and(|told| told.len() > 10), "{body}");
        (self.status, body["error"]["code"].as_i64().unwrap())
    }
}

/// What a client of MCP posts, with more headers, each with its CRLF. The connection ends with it.
pub fn post(body: impl AsRef<[u8]>, headers: &str) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("{}Content-Length: {}\r\nConnection: close\r\n{headers}\r\n", head(), body.len());
    [head.as_bytes(), body].concat()
}

/// The beginning of it.
pub fn head() -> String {
    format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nx-rls-user-id: {SEATTLE}\r\n"
    )
}

/// All that comes until the other side closes, or resets, the connection.
pub async fn read_to_close(from: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut received = Vec::new();
    let _ = from.read_to_end(&mut received).await;
    received
}

/// Takes answers apart; what is none, or breaks off, fails the test.
pub fn answers(mut received: &[u8]) -> Vec<RawAnswer> {
    let mut answers = Vec::new();
    while !received.is_empty() {
        let shown = String::from_utf8_lossy(&received[..received.len().min(300)]).into_owned();
        let end = received.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_else(|| panic!("{shown}"));
        let head = std::str::from_utf8(&received[..end]).unwrap();
        received = &received[end + 4..];
        let (line, rest) = head.split_once("\r\n").unwrap_or((head, ""));
        assert!(line.starts_with("HTTP/1.1 ") || line.starts_with("HTTP/1.0 "), "{shown}");
        let headers = rest.split("\r\n").filter(|line| !line.is_empty()).map(|line| {
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("{shown}"));
            (name.to_ascii_lowercase(), value.trim().to_owned())
        });
        let mut answer = RawAnswer { status: line[9..12].parse().unwrap(), headers: headers.collect(), body: vec![] };
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let end = received.windows(2).position(|two| two == b"\r\n").unwrap_or_else(|| panic!("{shown}"));
                let size = usize::from_str_radix(std::str::from_utf8(&received[..end]).unwrap(), 16).unwrap();
                answer.body.extend_from_slice(&received[end + 2..end + 2 + size]);
                received = &received[end + 4 + size..];
                if size == 0 {
                    break;
                }
            }
        } else {
            let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
            answer.body = received[..length].to_vec();
            received = &received[length..];
        }
        answers.push(answer);
    }
    answers
}
