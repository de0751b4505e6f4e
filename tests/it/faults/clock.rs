//! Clocks that jump by an hour while Rowgate works, its own and the database's: libfaketime stands between each process
//! and its clock. What is measured by a clock that can not jump is left as it is.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;

use super::cluster::{OwnCluster, embedding};
use super::handler::Handler;
use super::load::{Load, Truth};
use super::{Allowed, Span, Trial};
use crate::support::SEATTLE;
use crate::support::azure::{CLIENT_ID, LoopbackAzure, VAULT_HOST};

const HOUR: i64 = 3600;

/// A clock for processes that are started under it.
pub(super) struct Clock {
    library: PathBuf,
    folder: TempDir,
}

impl Clock {
    /// `None`, with a word about it, where the library is not installed; fails there if it has to be.
    fn installed() -> Option<Self> {
        let machine = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
        let found = [machine.as_str(), "/usr/lib", "/usr/lib64"].map(|place| {
            let library = Path::new(place).join("faketime/libfaketime.so.1");
            library.exists().then_some(library)
        });
        let Some(library) = found.into_iter().flatten().next() else {
            assert!(std::env::var_os("ROWGATE_TEST_FAKETIME").is_none(), "libfaketime is not installed");
            println!("libfaketime is not installed, so no clock jumped");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("rowgate-clock-").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let clock = Self { library, folder };
        clock.jump(0);
        Some(clock)
    }

    /// So many seconds from the right time, from now on.
    fn jump(&self, seconds: i64) {
        let (new, file) = (self.folder.path().join("new"), self.file());
        fs::write(&new, format!("{seconds:+}\n")).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o644)).unwrap();
        fs::rename(new, file).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("time")
    }

    /// What a process has to be started with.
    pub(super) fn environment(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        [
            ("LD_PRELOAD", text(&self.library)),
            ("FAKETIME_TIMESTAMP_FILE", text(&self.file())),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// The programs of a PostgreSQL, to be run under this clock.
    pub(super) fn programs(&self, home: &Path) -> PathBuf {
        let programs = self.folder.path().join("bin");
        fs::create_dir(&programs).unwrap();
        let environment: Vec<_> = self.environment().iter().map(|(name, value)| format!("{name}='{value}'")).collect();
        for name in ["postgres", "initdb"] {
            let program = home.join("bin").join(name);
            // Making a cluster takes a while, and no clock jumps meanwhile.
            let under = if name == "postgres" { environment.join(" ") } else { String::new() };
            let script = format!("#!/bin/sh\n{under} exec '{}' \"$@\"\n", program.display());
            fs::write(programs.join(name), script).unwrap();
            fs::set_permissions(programs.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        self.folder.path().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_jump_harm_nobody() {
    let (Some(here), Some(there)) = (Clock::installed(), Clock::installed()) else { return };
    let span = Span::of_this_run();
    let azure = LoopbackAzure::start().await;
    let cluster = OwnCluster::start_under(&azure, &there).await;
    azure.key_vault.set("rowgate-claim-keys", &cluster.key_text);
    let superuser = cluster.superuser().await;
    let truth = Arc::new(Truth::read(&superuser).await);
    let mut environment = embedding(&azure);
    environment.extend(azure.environment());
    environment.extend([
        ("ROWGATE_DATABASE_URL".to_owned(), cluster.url(cluster.port())),
        ("ROWGATE_KEY_VAULT".to_owned(), format!("https://{VAULT_HOST}")),
        ("ROWGATE_MANAGED_IDENTITY_CLIENT_ID".to_owned(), CLIENT_ID.to_owned()),
    ]);
    environment.extend(here.environment());
    let handler = Handler::start(environment).await;
    let load = Load::start(&handler.url(), truth, span.clients, usize::MAX);
    let mut trial = Trial::new(load, span);

    trial.fault("none, under clocks that can jump", Allowed::Nothing, sleep(span.fault)).await;
    for (hours, way) in [(1, "ahead"), (-1, "back")] {
        let own = async {
            here.jump(hours * HOUR);
            sleep(span.fault).await;
            assert_eq!(hours_off(handlers_time(&handler).await), hours, "the handler's clock did not jump");
            here.jump(0);
        };
        trial.fault(&format!("Rowgate's clock an hour {way}"), Allowed::Nothing, own).await;
        let databases = async {
            there.jump(hours * HOUR);
            sleep(span.fault).await;
            let time = superuser.query_one("select clock_timestamp()", &[]).await.unwrap().get(0);
            assert_eq!(hours_off(time), hours, "the database's clock did not jump");
            there.jump(0);
        };
        trial.fault(&format!("the database's clock an hour {way}"), Allowed::Nothing, databases).await;
    }
    let to_and_fro = async {
        for n in 0..span.fault.as_millis() / 50 {
            here.jump([HOUR, -HOUR, 0][n as usize % 3]);
            there.jump([0, HOUR, -HOUR, HOUR][n as usize % 4]);
            sleep(Duration::from_millis(50)).await;
        }
        here.jump(0);
        there.jump(0);
    };
    trial.fault("both clocks jump twenty times a second", Allowed::Nothing, to_and_fro).await;
    if std::env::var_os("ROWGATE_TEST_FAULTS_LOG").is_some() {
        println!("{}", handler.complaints());
    }
    trial.finish("Clocks that jump").await;
}

async fn handlers_time(handler: &Handler) -> DateTime<Utc> {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "name": "get_current_utc_date", "arguments": {} } });
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.post(format!("{}/mcp", handler.url())).header("accept", "application/json, text/event-stream");
    let request = request.header("content-type", "application/json").header("x-rls-user-id", SEATTLE);
    let answer: Value = request.body(body.to_string()).send().await.unwrap().json().await.unwrap();
    answer["result"]["structuredContent"]["utc"].as_str().unwrap().parse().unwrap()
}

fn hours_off(time: DateTime<Utc>) -> i64 {
    ((time - Utc::now()).num_seconds() as f64 / HOUR as f64).round() as i64
}
