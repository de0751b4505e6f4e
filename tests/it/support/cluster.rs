//! One server for all tests, with a template that has the migrations and a fiftieth of the sample.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use indicatif::ProgressBar;
use rowgate::config::{Settings, SignInChoice};
use rowgate::db::Db;
use rowgate::db::admin::Admin;
use rowgate::db::migrate::migrate;
use rowgate::dev::{self, Cluster, DevDatabase, Durability, Secrets};
use rowgate::domain::Profile;
use rowgate::embedding::LocalModel;
use rowgate::identity::SigningKeys;
use rowgate::indexing;
use rowgate::retail::{self, Scale};
use tokio_postgres::Config;

const TEMPLATE: &str = "template_zava";

/// The run's server. Its supervisor ends it with the process, and removes its folder.
pub struct TestCluster {
    pub cluster: Cluster,
    pub embedder: Arc<LocalModel>,
    pub keys: Arc<SigningKeys>,
    /// The same, as a setting has it.
    pub key_text: String,
    pub app_password: String,
}

/// A database of one test.
pub struct TestDatabase {
    pub name: String,
}

pub fn cluster() -> &'static TestCluster {
    static CLUSTER: OnceLock<TestCluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        // Tests have runtimes of their own, and this outlives each.
        let start = || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let cluster = runtime.block_on(TestCluster::start());
            std::mem::forget(runtime);
            cluster
        };
        std::thread::spawn(start).join().unwrap()
    })
}

/// A folder that PostgreSQL's account may use and remove.
fn scratch(prefix: &str) -> PathBuf {
    let folder = tempfile::Builder::new().prefix(prefix).tempdir().unwrap().keep();
    dev::make_folder(&folder, Durability::Scratch).unwrap();
    folder
}

impl TestCluster {
    async fn start() -> Self {
        let cache = dev::cache_folder(
            std::env::var_os("ROWGATE_CACHE_DIR").map(PathBuf::from).as_deref(),
            std::env::home_dir().map(|home| home.join(".cache")).as_deref(),
        );
        // Another installation of PostgreSQL 15 to 18 with pgvector can stand in for ours: the folder with its `bin`.
        let other = std::env::var_os("ROWGATE_TEST_POSTGRES").map(PathBuf::from);
        let home = other.unwrap_or_else(|| dev::postgres(&cache).unwrap());
        let secrets = Secrets::generate().unwrap();
        let cluster = Cluster::start(&home, &scratch("rowgate-test-"), &secrets.superuser, Durability::Scratch).await;
        let cluster = cluster.unwrap();
        let template = DevDatabase::of_cluster(&cluster, TEMPLATE, &secrets).await.unwrap();
        let keys = Arc::new(SigningKeys::parse(&template.claim_key).unwrap());
        let mut admin = template.admin().await.unwrap();
        migrate(&mut admin, Some("retail"), Some(&keys)).await.unwrap();
        admin.set_app_password(&template.app_password).await.unwrap();
        let scale = Scale::parse("0.02").unwrap();
        retail::seed(&mut admin, scale, false, &ProgressBar::hidden()).await.unwrap();
        let embedder = LocalModel::new(dev::minilm(&cache).unwrap());
        let profile = Profile::parse(retail::PROFILE).unwrap();
        indexing::index_for(&mut admin, &profile, &embedder, false, &ProgressBar::hidden()).await.unwrap();
        drop(admin);
        Self {
            cluster,
            embedder: Arc::new(embedder),
            keys,
            key_text: template.claim_key,
            app_password: template.app_password,
        }
    }
}

impl TestDatabase {
    /// A copy of the template.
    pub async fn create() -> Self {
        Self::copy_of(TEMPLATE).await
    }

    /// A database with nothing in it, not even pgvector.
    pub async fn empty() -> Self {
        Self::copy_of("template1").await
    }

    async fn copy_of(template: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let create = format!("create database {name} template {template} strategy file_copy");
        let superuser = Admin::connect(&cluster().cluster.superuser("postgres")).await.unwrap();
        // A connection that was just closed may still count as one to the template.
        for _ in 0..100 {
            match superuser.batch_execute(&create).await {
                Ok(()) => return Self { name },
                Err(error) if error.to_string().contains("db error") => {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
                Err(error) => panic!("{error:?}"),
            }
        }
        panic!("{name} could not be copied from {template}")
    }

    pub async fn superuser(&self) -> Admin {
        Admin::connect(&cluster().cluster.superuser(&self.name)).await.unwrap()
    }

    /// As the login role of the request path.
    pub fn app(&self) -> Config {
        let cluster = cluster();
        cluster.cluster.login("rowgate_app", &cluster.app_password, &self.name)
    }

    /// As the superuser, as a URL.
    pub fn admin_url(&self) -> String {
        let config = cluster().cluster.superuser(&self.name);
        let password = String::from_utf8(config.get_password().unwrap().to_vec()).unwrap();
        format!("postgres://postgres:{password}@127.0.0.1:{}/{}", cluster().cluster.port(), self.name)
    }

    /// As the login role of the request path, as a URL.
    pub fn url(&self) -> String {
        let cluster = cluster();
        format!("postgres://rowgate_app:{}@127.0.0.1:{}/{}", cluster.app_password, cluster.cluster.port(), self.name)
    }

    pub fn settings(&self, more: &[(&str, &str)]) -> Settings {
        let pairs = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut settings = Settings::read(pairs.collect()).unwrap();
        settings.database.app = Some(self.app());
        settings.claim_keys.given.get_or_insert_with(|| (*cluster().keys).clone());
        if settings.identity.sign_in.is_none() && !settings.identity.issued_tokens {
            settings.identity.sign_in = Some(SignInChoice::TrustedHeader);
        }
        settings.http.port = 0;
        settings
    }

    /// The database as callers use it.
    pub fn open(&self) -> Db {
        self.open_with(&[], self.app())
    }

    pub fn open_with(&self, settings: &[(&str, &str)], app: Config) -> Db {
        let settings = self.settings(settings);
        let path = Profile::parse(retail::PROFILE).unwrap().search_path;
        let keys = Arc::new(cluster().keys.clone());
        Db::new(app, &settings.database, &settings.limits, &path, keys, None).unwrap()
    }
}
