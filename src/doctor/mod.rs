//! `rowgate doctor`: looks at everything that a server needs, from settings to rows, and says of each thing what was seen
//! and what to run. Changes nothing, and prints no secret and no row, so it may be run beside a server in use.

mod caller;
mod hosts;
mod search;
mod server;
mod settings;
mod telemetry;

use std::error::Error as StdError;

use serde::Serialize;

use crate::app::{self, Azure};
use crate::config::{ConfigError, Settings};
use crate::domain::{Principal, Profile};

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// As it should be.
    Ok,
    /// It works, and could be better.
    Warning,
    /// It does not work.
    Failed,
    /// Not looked at, because something before it failed or it is not set up.
    Skipped,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// How it came out.
    pub mark: Mark,
    /// What was seen.
    pub seen: String,
    /// What to do about it, where there is something to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
}

/// Everything that was looked at, in the order in which one thing rests on another.
#[derive(Clone, Debug, Serialize)]
pub struct Diagnosis {
    checks: Vec<Check>,
}

impl Check {
    fn new(name: &'static str, mark: Mark, seen: impl Into<String>) -> Self {
        Self { name, mark, seen: seen.into(), run: None }
    }

    fn run(self, what: impl Into<String>) -> Self {
        Self { run: Some(what.into()), ..self }
    }
}

impl Diagnosis {
    /// Each check.
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// Whether a server with these settings answers.
    pub fn healthy(&self) -> bool {
        self.checks.iter().all(|check| check.mark != Mark::Failed)
    }

    /// For people: a line a check, what to run below it.
    pub fn text(&self) -> String {
        let width = self.checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
        let lines = self.checks.iter().map(|check| {
            let mark = match check.mark {
                Mark::Ok => "ok     ",
                Mark::Warning => "warning",
                Mark::Failed => "FAILED ",
                Mark::Skipped => "skipped",
            };
            let run = check.run.as_ref().map(|run| format!("\n         {:width$}  → {run}", "")).unwrap_or_default();
            format!("{mark}  {:width$}  {}{run}\n", check.name, check.seen)
        });
        lines.collect()
    }
}

/// Looks at everything. `shipped`: the profile, unless the settings name another; `principal`: whose eyes to look
/// through.
pub async fn diagnose(
    settings: Result<Settings, ConfigError>,
    shipped: &str,
    principal: Option<&Principal>,
) -> Diagnosis {
    let checks = match settings::read(settings, shipped) {
        Ok((settings, profile, check)) => {
            // What it asks of everybody is too much for one stack frame.
            let rest = Box::pin(all(&settings, &profile, principal)).await;
            [vec![check], rest].concat()
        }
        Err(check) => vec![check],
    };
    Diagnosis { checks }
}

/// What can be looked at where the settings can be read. A check that can not be made because of one before it is
/// skipped, so that the first failure is the one to mend.
async fn all(settings: &Settings, profile: &Profile, principal: Option<&Principal>) -> Vec<Check> {
    let azure = Azure::new(settings);
    let (dns, known) = hosts::check(settings).await;
    let mut checks = vec![
        settings::callers(settings),
        dns,
        settings::managed_identity(settings, &azure).await,
        settings::keys(settings, &azure).await,
        telemetry::check(&settings.telemetry, &azure).await,
    ];
    let database = match app::database(settings, profile, &azure) {
        Ok(database) => database,
        Err(error) => {
            checks.push(Check::new("database", Mark::Failed, chain(&error)).run("set what is missing and try again"));
            return checks;
        }
    };
    if !known {
        checks.push(Check::new("database", Mark::Skipped, "its host has no address"));
        return checks;
    }
    let examined = database.examine().await;
    let reached = examined.is_ok();
    checks.extend(server::examined(settings, &examined));
    if !reached {
        return checks;
    }
    checks.extend(server::protection(&database).await);
    let caller = principal.and_then(caller::of_principal);
    checks.extend(caller::claim(&database, caller.as_ref()).await);
    checks.extend(search::checks(settings, profile, &azure, &database, caller.as_ref()).await);
    checks
}

/// An error with all that caused it. Our own errors hold no secrets.
fn chain(error: &dyn StdError) -> String {
    let mut told = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !told.ends_with(&text) {
            told = format!("{told}: {text}");
        }
        source = cause.source();
    }
    told
}
