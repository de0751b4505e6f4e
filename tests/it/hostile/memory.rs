//! The handler's memory: a server of its own is asked for what is huge, and the kernel says how much it ever took.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::corpus::{Outcome, Tally, family};
use crate::support::{SEATTLE, TestDatabase, cluster};

/// What a huge answer may take beyond what the server takes at rest, in KiB.
const ALLOWED: u64 = 64 * 1024;

struct Served {
    child: Child,
    url: String,
    client: reqwest::Client,
}

impl Served {
    fn start(database: &TestDatabase, statement_seconds: u32) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rowgate"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ROWGATE_")) {
            command.env_remove(name);
        }
        let mut child = command
            .arg("serve")
            .env("ROWGATE_DATABASE_URL", database.url())
            .env("ROWGATE_CLAIM_KEYS", &cluster().key_text)
            .env("ROWGATE_IDENTITY", "trusted-header")
            .env("ROWGATE_PORT", "0")
            .env("ROWGATE_BODY_BYTES", "4194304")
            .env("ROWGATE_STATEMENT_SECONDS", statement_seconds.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let listening: Value = serde_json::from_str(&log.next().unwrap()).unwrap();
        // Read on, so that the program can go on writing.
        std::thread::spawn(move || log.for_each(drop));
        let url = format!("http://{}/mcp", listening["address"].as_str().unwrap());
        Self { child, url, client: reqwest::Client::new() }
    }

    async fn ask(&self, sql: &str) -> Outcome {
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": "execute_sales_query", "arguments": { "postgresql_query": sql } } });
        let request = self
            .client
            .post(&self.url)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("x-rls-user-id", SEATTLE)
            .body(call.to_string());
        let answer: Value = serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap();
        let result = &answer["result"];
        if result["isError"] != json!(true) {
            let cut = result["structuredContent"]["truncated"] == json!(true);
            return if cut { Outcome::Truncated } else { Outcome::Rows };
        }
        let told = result["content"][0]["text"].as_str().unwrap();
        if told.contains("ran for too long") {
            return Outcome::Timeout;
        }
        let first = told.lines().next().unwrap_or_default();
        match first.rsplit_once('(').and_then(|(_, rest)| rest.strip_suffix(')')) {
            Some(state) if state.len() == 5 => Outcome::Error(state.to_owned()),
            _ if first.contains("is the most") => Outcome::Refused,
            _ => Outcome::Error(first.to_owned()),
        }
    }

    /// A line of what the kernel knows of the process, in KiB.
    fn memory(&self, line: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix(line)).unwrap();
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn the_handler_stays_small() {
    if !fs::exists("/proc/self/status").unwrap() {
        eprintln!("there is no /proc here, so nothing was measured");
        return;
    }
    let database = TestDatabase::create().await;
    let (short, long) = (Served::start(&database, 1), Served::start(&database, 50));
    let mut rest = Vec::new();
    for served in [&short, &long] {
        assert_eq!(served.ask("select count(*) from orders").await, Outcome::Rows);
        rest.push(served.memory("VmRSS"));
    }
    let (mut complaints, mut tally) = (Vec::new(), Tally::default());
    for hostile in family("huge").statements {
        let (served, rest) = if hostile.guarded.takes_long() { (&short, rest[0]) } else { (&long, rest[1]) };
        let came = served.ask(&hostile.sql).await;
        let without_xml = hostile.xml && came == Outcome::Error("0A000".to_owned());
        if !came.is_meant_by(&hostile.guarded) && !without_xml {
            complaints.push(format!("{}: {came}, not {}", hostile.name, hostile.guarded));
        }
        let most = served.memory("VmHWM").saturating_sub(rest);
        tally.count("huge", "guarded", &hostile.guarded);
        if most > ALLOWED {
            complaints.push(format!("{}: {most} KiB more than at rest", hostile.name));
        }
    }
    for served in [&short, &long] {
        assert_eq!(served.ask("select count(*) from orders").await, Outcome::Rows);
    }
    println!("{tally}{} KiB more than at rest at most", long.memory("VmHWM").saturating_sub(rest[1]));
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}
