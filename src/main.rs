//! The command line, and nothing else: reads arguments and settings, calls a room, says what came of it.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rowgate::app::{self, App};
use rowgate::config::Settings;
use rowgate::db::admin::Admin;
use rowgate::db::migrate::migrate;
use rowgate::retail::{self, Scale, Seeded};
use rowgate::telemetry;

/// An MCP endpoint for PostgreSQL in which every caller sees only its own rows.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve, with everything from the environment.
    Serve,
    /// Serve on this machine, with a PostgreSQL of its own and the sample data.
    #[cfg(feature = "dev")]
    Dev(rowgate::dev::DevOptions),
    /// Bring the database up to date, and make it accept the claim keys that are set.
    Migrate,
    /// Load the sample data, all of it or nothing.
    Seed {
        /// Size of the data: 1 makes 50,000 customers.
        #[arg(long, default_value = "1", value_parser = Scale::parse)]
        scale: Scale,
        /// Replace the sample data that is there.
        #[arg(long)]
        reset: bool,
    },
    /// Embed the rows that are searched by meaning: those whose text has no vector yet, or another one.
    Embed {
        /// The model, if another one should not be taken by mistake.
        #[arg(long)]
        model: Option<String>,
        /// Embed all rows anew.
        #[arg(long)]
        all: bool,
    },
    /// Print `.vscode/mcp.json` for the sample's callers.
    McpConfig {
        /// The address of the server.
        #[arg(long, default_value = "http://127.0.0.1:8000/mcp")]
        url: String,
        /// Callers to include, by a part of their name; all of them unless given.
        #[arg(long)]
        caller: Vec<String>,
        /// Write the file instead of printing it. Leaves other servers in it alone.
        #[arg(long)]
        write: bool,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime.context("the runtime did not start").and_then(|runtime| {
        let outcome = runtime.block_on(run(arguments.command));
        runtime.shutdown_timeout(std::time::Duration::from_secs(1));
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rowgate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve => {
            let settings = settings()?;
            telemetry::start(&settings.telemetry, false)?;
            serve(settings).await
        }
        #[cfg(feature = "dev")]
        Command::Dev(options) => {
            let settings = settings()?;
            telemetry::start(&settings.telemetry, true)?;
            Ok(rowgate::dev::run(settings, options, &bar).await?)
        }
        Command::Migrate => {
            let settings = settings()?;
            let profile = app::profile(&settings, retail::PROFILE)?;
            let mut admin = admin(&settings).await?;
            let keys = (!settings.claim_keys.is_empty()).then_some(settings.claim_keys.as_slice());
            let migrated = migrate(&mut admin, profile.migrations.as_deref(), keys).await?;
            for name in &migrated.applied {
                println!("applied {name}");
            }
            println!("{} migrations, {} of them new", migrated.total, migrated.applied.len());
            match keys {
                Some(keys) => println!("{} claim keys accepted", keys.len()),
                None => println!("ROWGATE_CLAIM_KEYS is not set: the accepted claim keys are as before"),
            }
            if let Some(password) = &settings.database.app_password {
                admin.set_app_password(password).await?;
                println!("rowgate_app has the password of ROWGATE_APP_PASSWORD");
            }
            Ok(())
        }
        Command::Seed { scale, reset } => {
            let mut admin = admin(&settings()?).await?;
            let started = Instant::now();
            let bar = bar("loading");
            let seeded = retail::seed(&mut admin, scale, reset, &bar).await;
            bar.finish_and_clear();
            match seeded? {
                Seeded::AlreadyThere => println!("the sample data is there already; --reset replaces it"),
                Seeded::Loaded { rows } => println!("{rows} rows in {:.1} s", started.elapsed().as_secs_f64()),
            }
            Ok(())
        }
        Command::Embed { model, all } => embed(settings()?, model.as_deref(), all).await,
        Command::McpConfig { url, caller, write } => mcp_config(&url, &caller, write),
    }
}

fn settings() -> anyhow::Result<Settings> {
    Settings::from_environment().context("the environment has problems")
}

async fn admin(settings: &Settings) -> anyhow::Result<Admin> {
    let config = settings.database.admin.as_ref().context(
        "ROWGATE_ADMIN_DATABASE_URL is not set: it names the database, as postgres://administrator:password@host/database",
    )?;
    Ok(Admin::connect(config).await?)
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let profile = app::profile(&settings, retail::PROFILE)?;
    let embedder = app::embedder(&settings, &profile)?;
    let app = App::build(settings, profile, embedder)?;
    let listener = app.listen().await?;
    tracing::info!(address = %listener.address(), "listening");
    tracing::warn!("callers are believed what x-rls-user-id says: anyone who reaches this address can ask as anyone");
    app.serve(listener, app::told_to_end()).await;
    Ok(())
}

async fn embed(settings: Settings, model: Option<&str>, all: bool) -> anyhow::Result<()> {
    #[cfg(feature = "dev")]
    let settings = rowgate::dev::with_local_model(settings).await?;
    let profile = app::profile(&settings, retail::PROFILE)?;
    let embedder = app::embedder(&settings, &profile)?
        .context("ROWGATE_EMBEDDER is not set: it says what turns words into vectors")?;
    let name = embedder.model().name.clone();
    if let Some(other) = model.filter(|model| **model != name) {
        anyhow::bail!("the embedder's model is {name}, not {other}");
    }
    let mut admin = admin(&settings).await?;
    let started = Instant::now();
    let bar = bar("embedding");
    let indexed = rowgate::indexing::index_for(&mut admin, &profile, &*embedder, all, &bar).await;
    bar.finish_and_clear();
    let rowgate::indexing::Indexed { embedded, total, tokens } = indexed?;
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{embedded} rows embedded with {name}, {tokens} tokens, {seconds:.1} s; {total} rows have its vectors now"
    );
    Ok(())
}

fn mcp_config(url: &str, callers: &[String], write: bool) -> anyhow::Result<()> {
    let path = std::path::Path::new(".vscode/mcp.json");
    let existing = if write { std::fs::read_to_string(path).ok() } else { None };
    let config = retail::mcp_config(url, callers, existing.as_deref())?;
    if write {
        std::fs::create_dir_all(".vscode").context("the folder .vscode can not be made")?;
        std::fs::write(path, config).context(".vscode/mcp.json can not be written")?;
        println!("wrote .vscode/mcp.json");
    } else {
        print!("{config}");
    }
    Ok(())
}

/// A progress bar, shown on a terminal only.
fn bar(message: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(0);
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) = ProgressStyle::with_template("  {msg:<12} {bar:32} {percent:>3}%  {human_pos} rows, {elapsed}") {
        bar.set_style(style);
    }
    bar.with_message(message)
}
