//! `rowgate doctor`: looks at everything that a server needs, from settings to rows, and says of each thing what was seen
//! and what to run. Changes nothing, and prints no secret and no row, so it may be run beside a server in use.

mod checks;

use serde::Serialize;

use crate::config::Settings;
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

/// Looks at everything. `principal`: whose eyes to look through.
pub async fn diagnose(settings: &Settings, profile: &Profile, principal: Option<&Principal>) -> Diagnosis {
    Diagnosis { checks: checks::all(settings, profile, principal).await }
}
