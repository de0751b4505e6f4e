//! The command line, and nothing else: reads arguments and settings, calls a room, says what came of it.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rowgate::app::{self, App, Azure};
use rowgate::config::Settings;
use rowgate::db::admin::Admin;
use rowgate::db::migrate::migrate;
use rowgate::db::principals::{self, Sees};
use rowgate::db::{Tls, tokens};
use rowgate::doctor;
use rowgate::domain::{IdError, Principal, TokenId};
use rowgate::identity::IssuedToken;
use rowgate::retail::{self, Scale, Seeded};
use rowgate::telemetry::{self, Telemetry};

/// A call asks for some five hundred blocks of memory. musl's allocator, which the static binary would have, held on to
/// half as much again at worst, and mimalloc to more; with this one a call takes no more CPU than with glibc's.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

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
    /// Look at everything that `serve` needs, and say what is wrong and what mends it. Changes nothing.
    Doctor {
        /// Look through the eyes of this principal: is it let in, and what does it see?
        #[arg(long = "as", value_parser = principal)]
        principal: Option<Principal>,
        /// One JSON object instead of lines.
        #[arg(long)]
        json: bool,
    },
    /// Who may ask, and what of.
    #[command(subcommand)]
    Principal(PrincipalCommand),
    /// Tokens for agents and clients that can not sign in.
    #[command(subcommand)]
    Token(TokenCommand),
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

#[derive(Subcommand)]
enum PrincipalCommand {
    /// Register a principal, or set right what it may see.
    Add {
        /// An object id of Entra's, `group:<object id>` or `role:<application role>`.
        #[arg(value_parser = principal)]
        principal: Principal,
        /// Its name, for people.
        #[arg(long)]
        name: Option<String>,
        /// A store that it may see, by its id; more than one if given again.
        #[arg(long, required_unless_present = "all_stores")]
        store: Vec<i32>,
        /// It may see every store, as the head office does.
        #[arg(long, conflicts_with = "store")]
        all_stores: bool,
    },
    /// Remove a principal, and with it its tokens.
    Remove {
        /// Whom.
        #[arg(value_parser = principal)]
        principal: Principal,
    },
    /// Who is registered, and what each may see.
    List,
    /// Who changed what: principals, stores, tokens and keys, the newest change first.
    Log {
        /// How many changes.
        #[arg(long, default_value = "50")]
        most: i64,
    },
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Sign a token for a registered principal and print it, once.
    Issue {
        /// For whom.
        #[arg(long, value_parser = principal)]
        principal: Principal,
        /// How long it lasts: `90d`, `12h` or `30m`.
        #[arg(long, value_parser = lifetime)]
        expires: Duration,
    },
    /// All tokens, by their ids.
    List,
    /// Revoke a token: calls with it are refused from now on.
    Revoke {
        /// Its id, as `list` shows it.
        #[arg(value_parser = token_id)]
        id: TokenId,
    },
}

fn principal(text: &str) -> Result<Principal, IdError> {
    Principal::parse(text)
}

fn token_id(text: &str) -> Result<TokenId, IdError> {
    TokenId::parse(text)
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let unit = match text.chars().next_back() {
        Some('d') => 86_400,
        Some('h') => 3_600,
        Some('m') => 60,
        _ => 0,
    };
    let number = text.get(..text.len().saturating_sub(1)).and_then(|digits| digits.parse::<u32>().ok());
    match number {
        Some(number @ 1..) if unit > 0 => Ok(Duration::from_secs(u64::from(number) * unit)),
        _ => Err("write it as 90d, 12h or 30m".to_owned()),
    }
}

fn main() -> ExitCode {
    telemetry::start::begin();
    let arguments = Arguments::parse();
    let runtime = app::runtime();
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
        Command::Serve => serve(settings()?).await,
        #[cfg(feature = "dev")]
        Command::Dev(options) => {
            let settings = settings()?;
            let telemetry = Telemetry::start(&settings.telemetry, true, None)?;
            Ok(rowgate::dev::run(settings, options, telemetry, &bar).await?)
        }
        Command::Migrate => {
            let settings = settings()?;
            let profile = app::profile(&settings, retail::PROFILE)?;
            let mut admin = admin(&settings).await?;
            let keys = settings.claim_keys.given.as_ref();
            let migrated = migrate(&mut admin, profile.migrations.as_deref(), keys).await?;
            for name in &migrated.applied {
                println!("applied {name}");
            }
            println!("{} migrations, {} of them new", migrated.total, migrated.applied.len());
            match keys {
                Some(keys) => println!("{} claim keys accepted", keys.iter().count()),
                None => println!("ROWGATE_CLAIM_KEYS is not set: the accepted claim keys are as before"),
            }
            if let Some(object_id) = &settings.database.app_object_id {
                admin.let_app_identity_log_in(object_id).await?;
                println!("the managed identity {object_id} may log in as rowgate_app");
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
        Command::Doctor { principal, json } => {
            let diagnosis = doctor::diagnose(Settings::from_environment(), retail::PROFILE, principal.as_ref()).await;
            if json {
                println!("{}", serde_json::to_string_pretty(&diagnosis)?);
            } else {
                print!("{}", diagnosis.text());
            }
            anyhow::ensure!(diagnosis.healthy(), "something has to be mended");
            Ok(())
        }
        Command::Principal(command) => administer_principals(&mut admin(&settings()?).await?, command).await,
        Command::Token(command) => {
            let settings = settings()?;
            administer_tokens(&mut admin(&settings).await?, &settings, command).await
        }
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
    Ok(Admin::connect_with(config, &Tls::new(&settings.database.tls)).await?)
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let profile = app::profile(&settings, retail::PROFILE)?;
    let azure = Azure::new(&settings);
    let telemetry = Telemetry::start(&settings.telemetry, false, Some(azure.monitor_token()))?;
    let embedder = app::embedder(&settings, &profile, &azure)?;
    let app = App::build(settings, profile, embedder, &azure, &telemetry)?;
    let listener = app.listen().await?;
    telemetry::start::listening();
    tracing::info!(address = %listener.address(), "listening");
    if app.believes_anybody() {
        tracing::warn!(
            "callers are believed what x-rls-user-id says: anyone who reaches this address can ask as anyone"
        );
    }
    app.serve(listener, app::told_to_end()).await;
    telemetry.end().await;
    Ok(())
}

async fn embed(settings: Settings, model: Option<&str>, all: bool) -> anyhow::Result<()> {
    #[cfg(feature = "dev")]
    let settings = rowgate::dev::with_local_model(settings).await?;
    let profile = app::profile(&settings, retail::PROFILE)?;
    let embedder = app::embedder(&settings, &profile, &Azure::new(&settings))?
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

async fn administer_principals(admin: &mut Admin, command: PrincipalCommand) -> anyhow::Result<()> {
    match command {
        PrincipalCommand::Add { principal, name, store, all_stores } => {
            let sees = if all_stores { Sees::AllStores } else { Sees::Stores(store) };
            principals::add(admin, &principal, name.as_deref(), &sees).await?;
            println!("{} sees {}", principal.as_str(), shown(&sees));
        }
        PrincipalCommand::Remove { principal } => {
            principals::remove(admin, &principal).await?;
            println!("{} is nobody here any more", principal.as_str());
        }
        PrincipalCommand::List => {
            for registered in principals::list(admin).await? {
                println!("{:<44}  {:<36}  {}", registered.principal, registered.name, shown(&registered.sees));
            }
        }
        PrincipalCommand::Log { most } => {
            for change in principals::changes(admin, most).await? {
                let what = [change.before, change.after].map(|json| json.unwrap_or_else(|| "-".to_owned())).join(" → ");
                let at = change.at.format("%Y-%m-%d %H:%M:%S");
                println!("{at}  {}  {} {}  {what}", change.by, change.action, change.subject);
            }
        }
    }
    Ok(())
}

fn shown(sees: &Sees) -> String {
    match sees {
        Sees::AllStores => "every store".to_owned(),
        Sees::Stores(stores) => {
            let stores: Vec<_> = stores.iter().map(i32::to_string).collect();
            format!("stores {}", stores.join(", "))
        }
    }
}

async fn administer_tokens(admin: &mut Admin, settings: &Settings, command: TokenCommand) -> anyhow::Result<()> {
    match command {
        TokenCommand::Issue { principal, expires } => {
            let keys = settings.token_keys.given.as_ref().context(
                "ROWGATE_TOKEN_KEYS is not set: it signs tokens, and has to be what the server believes; make one with \
                 `echo t1:$(openssl rand -base64 32)`",
            )?;
            let token = IssuedToken::issue(keys.newest(), &principal, expires)?;
            tokens::register(admin, &principal, &token).await?;
            eprintln!("token {}, shown this once:", token.id().as_str());
            println!("{}", token.expose());
        }
        TokenCommand::List => {
            for token in tokens::list(admin).await? {
                let day = |at: chrono::DateTime<chrono::Utc>| at.format("%Y-%m-%d %H:%M").to_string();
                let state = match token.revoked {
                    Some(at) => format!("revoked {}", day(at)),
                    None if token.expires <= chrono::Utc::now() => format!("expired {}", day(token.expires)),
                    None => format!("until {}", day(token.expires)),
                };
                println!("{}  {:<44}  issued {}  {state}", token.id, token.principal, day(token.issued));
            }
        }
        TokenCommand::Revoke { id } => {
            tokens::revoke(admin, &id).await?;
            println!("{} is revoked", id.as_str());
        }
    }
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
