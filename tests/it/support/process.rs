//! `rowgate serve` as a process of its own, and all that it writes.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use super::{TestDatabase, cluster};

pub struct Process {
    child: Child,
    pub url: String,
    pub client: reqwest::Client,
    written: Arc<Mutex<String>>,
    reading: Option<JoinHandle<()>>,
}

impl Process {
    /// On a database, with more settings than it needs.
    pub fn serve(database: &TestDatabase, more: &[(&str, &str)]) -> Self {
        let own = [
            ("ROWGATE_DATABASE_URL", database.url()),
            ("ROWGATE_CLAIM_KEYS", cluster().key_text.clone()),
            ("ROWGATE_IDENTITY", "trusted-header".to_owned()),
            ("ROWGATE_PORT", "0".to_owned()),
        ];
        let mut command = Command::new(env!("CARGO_BIN_EXE_rowgate"));
        command.env_clear().env("PATH", std::env::var("PATH").unwrap());
        command.envs(own.iter().filter(|(name, _)| more.iter().all(|(given, _)| given != name)).cloned());
        // An empty value takes one away.
        command.envs(more.iter().filter(|(_, value)| !value.is_empty()).copied());
        let mut child = command.arg("serve").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let written = Arc::new(Mutex::new(String::new()));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut url = None;
        while url.is_none() {
            let Some(Ok(line)) = lines.next() else { break };
            let told: Value = serde_json::from_str(&line).unwrap_or_default();
            url = told["address"].as_str().map(|address| format!("http://{address}"));
            written.lock().unwrap().extend([line.as_str(), "\n"]);
        }
        let kept = Arc::clone(&written);
        let errors = BufReader::new(child.stderr.take().unwrap()).lines();
        let also = Arc::clone(&written);
        std::thread::spawn(move || errors.map_while(Result::ok).for_each(|line| also.lock().unwrap().push_str(&line)));
        let reading = std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| kept.lock().unwrap().extend([line.as_str(), "\n"]));
        });
        let Some(url) = url else { panic!("no server: {}", written.lock().unwrap()) };
        Self { child, url, client: reqwest::Client::new(), written, reading: Some(reading) }
    }

    /// Everything on standard output and standard error so far.
    pub fn written(&self) -> String {
        self.written.lock().unwrap().clone()
    }

    /// The lines of the log that say this. Who reads them may be a moment behind, so the first is waited for.
    pub async fn logged(&self, message: &str) -> Vec<Value> {
        let mut found = Vec::new();
        for _ in 0..100 {
            let written = self.written();
            let lines = written.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            found = lines.filter(|line| line["message"] == message).collect();
            if !found.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        found
    }

    pub fn request(&self, caller: &str, body: &Value) -> reqwest::RequestBuilder {
        self.client
            .post(format!("{}/mcp", self.url))
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("x-rls-user-id", caller)
            .body(body.to_string())
    }

    /// A call of a tool: its result.
    pub async fn call(&self, caller: &str, tool: &str, arguments: Value) -> Value {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": { "name": tool, "arguments": arguments } });
        let answer = self.request(caller, &body).send().await.unwrap().text().await.unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        answer["result"].clone()
    }

    pub async fn sql(&self, caller: &str, sql: &str) -> Value {
        self.call(caller, "execute_sales_query", json!({ "postgresql_query": sql })).await
    }

    /// Tells it to end, and waits until it has. Everything that it wrote.
    pub async fn end(self) -> String {
        // Whoever answers it runs here too.
        tokio::task::spawn_blocking(move || self.end_here()).await.unwrap()
    }

    fn end_here(mut self) -> String {
        let told = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(told.success() && self.child.wait().unwrap().success(), "{}", self.written());
        self.reading.take().unwrap().join().unwrap();
        self.written()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
