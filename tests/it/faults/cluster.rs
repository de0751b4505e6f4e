//! A PostgreSQL server of its own, with the sample's fiftieth and vectors of the fake embedding service, that can be
//! stopped, killed and frozen. The shared server of the tests is left alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use indicatif::ProgressBar;
use rowgate::app::{self, Azure};
use rowgate::config::Settings;
use rowgate::db::admin::Admin;
use rowgate::db::migrate::migrate;
use rowgate::dev::{self, Cluster, DevDatabase, Durability, Secrets};
use rowgate::domain::Profile;
use rowgate::identity::SigningKeys;
use rowgate::retail::{self, Scale};
use rowgate::{domain, indexing};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::clock::Clock;
use super::disk::SmallDisk;
use crate::support::azure::LoopbackAzure;

const DATABASE: &str = "faults";

pub(super) struct OwnCluster {
    running: Option<Cluster>,
    home: PathBuf,
    secrets: Secrets,
    pub(super) key_text: String,
    pub(super) app_password: String,
    /// What its data is on, where that can be mounted. Goes after the server and before the folder.
    pub(super) disk: Option<SmallDisk>,
    folder: TempDir,
}

impl OwnCluster {
    /// On a small disk, where one can be mounted.
    pub(super) async fn start_on_small_disk(azure: &LoopbackAzure) -> Self {
        let folder = folder();
        let disk = SmallDisk::mount(folder.path());
        Self::start(azure, postgres(), folder, disk).await
    }

    /// Under a clock that can jump.
    pub(super) async fn start_under(azure: &LoopbackAzure, clock: &Clock) -> Self {
        Self::start(azure, clock.programs(&postgres()), folder(), None).await
    }

    async fn start(azure: &LoopbackAzure, home: PathBuf, folder: TempDir, disk: Option<SmallDisk>) -> Self {
        dev::make_folder(folder.path(), Durability::Scratch).unwrap();
        let secrets = Secrets::generate().unwrap();
        // Kept, because what is thrown away is removed when the server ends.
        let running = Cluster::start(&home, folder.path(), &secrets.superuser, Durability::Kept).await.unwrap();
        let database = DevDatabase::of_cluster(&running, DATABASE, &secrets).await.unwrap();
        let keys = Arc::new(SigningKeys::parse(&database.claim_key).unwrap());
        let mut admin = database.admin().await.unwrap();
        migrate(&mut admin, Some("retail"), Some(&keys)).await.unwrap();
        admin.set_app_password(&database.app_password).await.unwrap();
        let scale = Scale::parse("0.02").unwrap();
        retail::seed(&mut admin, scale, false, &ProgressBar::hidden()).await.unwrap();
        embed(&mut admin, azure).await;
        let (key_text, app_password) = (database.claim_key, database.app_password);
        Self { running: Some(running), home, secrets, key_text, app_password, disk, folder }
    }

    pub(super) fn port(&self) -> u16 {
        self.running.as_ref().unwrap().port()
    }

    pub(super) async fn superuser(&self) -> Admin {
        Admin::connect(&self.running.as_ref().unwrap().superuser(DATABASE)).await.unwrap()
    }

    pub(super) fn superuser_config(&self) -> tokio_postgres::Config {
        self.running.as_ref().unwrap().superuser(DATABASE)
    }

    /// How the login role reaches it through a port.
    pub(super) fn url(&self, port: u16) -> String {
        format!("postgres://rowgate_app:{}@127.0.0.1:{port}/{DATABASE}", self.app_password)
    }

    /// A fast shutdown: sessions are ended.
    pub(super) async fn stop(&mut self) {
        let running = self.running.take();
        tokio::task::spawn_blocking(move || drop(running)).await.unwrap();
    }

    /// The postmaster dies; its children find that out by themselves.
    pub(super) async fn kill(&mut self) {
        kill_process(self.postmaster(), Signal::KILL).unwrap();
        self.stop().await;
    }

    /// Starts the same data again, on another port, after whatever a crash left behind has gone.
    pub(super) async fn start_again(&mut self) {
        for attempt in 0.. {
            let started =
                Cluster::start(&self.home, self.folder.path(), &self.secrets.superuser, Durability::Kept).await;
            match started {
                Ok(running) => return self.running = Some(running),
                Err(error) => assert!(attempt < 100, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Stops or continues every process of the server.
    pub(super) fn signal_all(&self, signal: Signal) {
        let postmaster = self.postmaster();
        let mut all = children(postmaster);
        all.push(postmaster);
        for process in all {
            // One that ended in between is none to be stopped.
            let _ = kill_process(process, signal);
        }
    }

    /// What the server logged since it was last started.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("postgres.log")).unwrap()
    }

    fn postmaster(&self) -> Pid {
        let file = fs::read_to_string(self.folder.path().join("pgdata/postmaster.pid")).unwrap();
        Pid::from_raw(file.lines().next().unwrap().trim().parse().unwrap()).unwrap()
    }
}

impl Drop for OwnCluster {
    fn drop(&mut self) {
        if self.running.is_some() {
            self.signal_all(Signal::CONT);
        }
    }
}

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("rowgate-faults-").tempdir().unwrap()
}

/// Where PostgreSQL is.
fn postgres() -> PathBuf {
    let cache = dev::cache_folder(
        std::env::var_os("ROWGATE_CACHE_DIR").map(PathBuf::from).as_deref(),
        std::env::home_dir().map(|home| home.join(".cache")).as_deref(),
    );
    let other = std::env::var_os("ROWGATE_TEST_POSTGRES").map(PathBuf::from);
    other.unwrap_or_else(|| dev::postgres(&cache).unwrap())
}

/// Processes whose parent is this one.
fn children(parent: Pid) -> Vec<Pid> {
    let of = |path: &Path| -> Option<Pid> {
        let pid: i32 = path.file_name()?.to_str()?.parse().ok()?;
        let status = fs::read_to_string(path.join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
        (line.trim().parse::<i32>().ok()? == parent.as_raw_nonzero().get()).then(|| Pid::from_raw(pid))?
    };
    fs::read_dir("/proc").unwrap().filter_map(|entry| of(&entry.ok()?.path())).collect()
}

/// Vectors of the fake service, and what has a server search by them.
pub(super) async fn embed(admin: &mut Admin, azure: &LoopbackAzure) {
    let settings = Settings::read(embedding(azure).into_iter().collect()).unwrap();
    let profile: domain::Profile = Profile::parse(retail::PROFILE).unwrap();
    let embedder = app::embedder(&settings, &profile, &Azure::new(&settings)).unwrap().unwrap();
    indexing::index_for(admin, &profile, &*embedder, false, &ProgressBar::hidden()).await.unwrap();
}

/// The settings of the fake embedding service.
pub(super) fn embedding(azure: &LoopbackAzure) -> Vec<(String, String)> {
    [
        ("ROWGATE_EMBEDDER", "azure-openai".to_owned()),
        ("ROWGATE_OPENAI_ENDPOINT", azure.plain_openai()),
        ("ROWGATE_OPENAI_KEY", azure.openai.key.clone()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}
