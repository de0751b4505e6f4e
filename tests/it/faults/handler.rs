//! `rowgate serve` as a process of its own, on one port for all its lives, so that it can be killed and its memory read.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub(super) struct Handler {
    child: Child,
    port: u16,
    environment: Vec<(String, String)>,
    folder: TempDir,
    starts: u32,
}

/// What the kernel says of its memory, in KiB.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    /// Resident now.
    pub(super) resident: u64,
    /// Resident at most, so far.
    pub(super) peak: u64,
}

impl Handler {
    pub(super) async fn start(environment: Vec<(String, String)>) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::Builder::new().prefix("rowgate-handler-").tempdir().unwrap();
        let child = launch(port, &environment, &folder, 1);
        let handler = Self { child, port, environment, folder, starts: 1 };
        handler.answers().await;
        handler
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// SIGKILL: what it was doing is lost.
    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Another one, with nothing in its memory.
    pub(super) async fn start_again(&mut self) {
        self.starts += 1;
        self.child = launch(self.port, &self.environment, &self.folder, self.starts);
        self.answers().await;
    }

    pub(super) fn memory(&self) -> Memory {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_end_matches("kB").trim().parse().unwrap()
        };
        Memory { resident: of("VmRSS:"), peak: of("VmHWM:") }
    }

    /// The last lines that it logged at warning or above, for whoever looks for the cause.
    pub(super) fn complaints(&self) -> String {
        let logs = (1..=self.starts).map(|n| fs::read_to_string(self.folder.path().join(format!("{n}.log"))));
        let all: String = logs.map(Result::unwrap).collect();
        let lines: Vec<_> = all.lines().filter(|line| line.contains("ERROR") || line.contains("WARN")).collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    async fn answers(&self) {
        let started = Instant::now();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        while client.get(format!("{}/healthz", self.url())).send().await.is_err() {
            assert!(started.elapsed() < Duration::from_secs(60), "{}", self.complaints());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn launch(port: u16, environment: &[(String, String)], folder: &TempDir, number: u32) -> Child {
    let log = File::create(folder.path().join(format!("{number}.log"))).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rowgate"));
    command.arg("serve").env_clear().env("ROWGATE_PORT", port.to_string()).env("ROWGATE_LOG_FORMAT", "json");
    command.env("ROWGATE_IDENTITY", "trusted-header");
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().unwrap()
}
