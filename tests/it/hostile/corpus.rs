//! The corpus as data: one file a family under `tests/data/hostile`, read when a test runs. Knows nothing of a database.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

use rowgate::db::{Answer, DbError};
use serde_json::Value;

const FOLDER: &str = "tests/data/hostile";

/// Statements of one kind.
pub(super) struct Family {
    pub(super) name: String,
    pub(super) minimum: usize,
    pub(super) statements: Vec<Hostile>,
}

/// A statement, and what is meant to come of it.
pub(super) struct Hostile {
    pub(super) name: String,
    pub(super) sql: String,
    /// With all layers.
    pub(super) guarded: Outcome,
    /// With the lexical check out of the way.
    pub(super) bare: Outcome,
    /// The rows of an answer, where they are to be just these.
    pub(super) rows: Option<Value>,
    /// The oldest major version of PostgreSQL that has what the statement uses.
    pub(super) since: u32,
    /// Whether it needs a server that was built with libxml.
    pub(super) xml: bool,
}

/// What came of a statement.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    /// The lexical check refused it.
    Refused,
    /// PostgreSQL refused it, with this SQLSTATE.
    Error(String),
    /// It ran and did no harm.
    Rows,
    /// It ran, and the answer was cut.
    Truncated,
    /// It was stopped when its time was over.
    Timeout,
    /// Cut or out of time, whichever comes first on this machine.
    Stopped,
    /// It ran, and something is different afterwards or was seen.
    Effect(Effect),
}

/// What is different after a statement, or was seen by it. `effects.rs` says what each means exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Effect {
    Cancelled,
    Claim,
    Ended,
    Late,
    Neighbour,
    Placeholder,
    Seed,
    Totals,
    Wal,
    Xid,
}

const EFFECTS: &[(&str, Effect)] = &[
    ("cancelled", Effect::Cancelled),
    ("claim", Effect::Claim),
    ("ended", Effect::Ended),
    ("late", Effect::Late),
    ("neighbour", Effect::Neighbour),
    ("placeholder", Effect::Placeholder),
    ("seed", Effect::Seed),
    ("totals", Effect::Totals),
    ("wal", Effect::Wal),
    ("xid", Effect::Xid),
];

impl Outcome {
    fn parse(text: &str) -> Self {
        match text.split_once(':') {
            Some(("error", state)) => Self::Error(state.to_owned()),
            Some(("effect", name)) => {
                let known = EFFECTS.iter().find(|(known, _)| *known == name);
                Self::Effect(known.unwrap_or_else(|| panic!("no effect {name}")).1)
            }
            _ => match text {
                "refused" => Self::Refused,
                "rows" => Self::Rows,
                "truncated" => Self::Truncated,
                "timeout" => Self::Timeout,
                "stopped" => Self::Stopped,
                _ => panic!("no outcome {text}"),
            },
        }
    }

    /// What a call came to.
    pub(super) fn of(outcome: &Result<Answer, DbError>) -> Self {
        match outcome {
            Ok(Answer { truncated: Some(_), .. }) => Self::Truncated,
            Ok(_) => Self::Rows,
            Err(DbError::Refused(_)) => Self::Refused,
            Err(DbError::TimedOut) => Self::Timeout,
            Err(DbError::Statement(mistake)) => Self::Error(mistake.sqlstate.clone()),
            Err(DbError::UnknownCaller) => Self::Error("RG001".to_owned()),
            Err(
                DbError::Claim(error)
                | DbError::Expired(error)
                | DbError::UnknownKey(error)
                | DbError::Unavailable(error)
                | DbError::Internal(error)
                | DbError::Lost(error),
            ) => Self::Error(error.code().map_or_else(|| "client".to_owned(), |code| code.code().to_owned())),
            Err(other) => Self::Error(format!("{other:?}")),
        }
    }

    /// Whether a call that came to this is what was meant.
    pub(super) fn is_meant_by(&self, expected: &Self) -> bool {
        match expected {
            Self::Effect(Effect::Late) => *self == Self::Timeout,
            Self::Effect(_) => *self == Self::Rows,
            Self::Stopped => [Self::Timeout, Self::Truncated].contains(self),
            other => self == other,
        }
    }

    /// Whether it is meant to run out of time.
    pub(super) fn takes_long(&self) -> bool {
        matches!(self, Self::Timeout | Self::Stopped | Self::Effect(Effect::Late))
    }

    /// The column of the table that it is counted in.
    pub(super) fn column(&self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Error(_) => "error",
            Self::Rows => "rows",
            Self::Truncated => "truncated",
            Self::Timeout => "timeout",
            Self::Stopped => "stopped",
            Self::Effect(_) => "effect",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(state) => write!(f, "error:{state}"),
            Self::Effect(effect) => {
                let (name, _) = EFFECTS.iter().find(|(_, known)| known == effect).unwrap();
                write!(f, "effect:{name}")
            }
            other => f.write_str(other.column()),
        }
    }
}

/// All families, by name.
pub(super) fn read() -> Vec<Family> {
    let mut families = Vec::new();
    for entry in fs::read_dir(FOLDER).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let file: toml::Table = fs::read_to_string(&path).unwrap().parse().unwrap_or_else(|e| panic!("{name}: {e}"));
        let statements = file["statement"].as_array().unwrap().iter().map(read_statement).collect();
        let minimum = file["minimum"].as_integer().unwrap();
        families.push(Family { name, minimum: usize::try_from(minimum).unwrap(), statements });
    }
    families.sort_by(|a, b| a.name.cmp(&b.name));
    families
}

/// One family.
pub(super) fn family(name: &str) -> Family {
    read().into_iter().find(|family| family.name == name).unwrap_or_else(|| panic!("no family {name}"))
}

fn read_statement(entry: &toml::Value) -> Hostile {
    let text = |key: &str| entry.get(key).and_then(toml::Value::as_str).unwrap_or_else(|| panic!("{key}: {entry}"));
    let repeat = entry.get("repeat").and_then(toml::Value::as_integer).unwrap_or(1);
    for key in entry.as_table().unwrap().keys() {
        assert!(["name", "sql", "repeat", "guarded", "bare", "rows", "since", "xml"].contains(&key.as_str()), "{key}");
    }
    Hostile {
        name: text("name").to_owned(),
        sql: expand(text("sql"), usize::try_from(repeat).unwrap()),
        guarded: Outcome::parse(text("guarded")),
        bare: Outcome::parse(text("bare")),
        rows: entry.get("rows").map(|rows| serde_json::to_value(rows).unwrap()),
        since: entry.get("since").and_then(toml::Value::as_integer).map_or(15, |since| u32::try_from(since).unwrap()),
        xml: entry.get("xml").is_some(),
    }
}

/// `{{x}}` stands for so many x.
fn expand(sql: &str, repeat: usize) -> String {
    let mut parts = sql.split("{{");
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (repeated, rest) = part.split_once("}}").unwrap();
        whole += &repeated.repeat(repeat);
        whole += rest;
    }
    whole
}

/// How many statements of each family had which outcome, guarded and bare.
#[derive(Default)]
pub(super) struct Tally(BTreeMap<(String, &'static str), BTreeMap<&'static str, usize>>);

impl Tally {
    pub(super) fn count(&mut self, family: &str, layers: &'static str, outcome: &Outcome) {
        let counts = self.0.entry((family.to_owned(), layers)).or_default();
        *counts.entry(outcome.column()).or_default() += 1;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = ["refused", "error", "rows", "truncated", "timeout", "stopped", "effect"];
        writeln!(f, "| family | layers | all | {} |", columns.join(" | "))?;
        for ((family, layers), counts) in &self.0 {
            let numbers = columns.map(|column| counts.get(column).map_or("–".to_owned(), ToString::to_string));
            writeln!(f, "| {family} | {layers} | {} | {} |", counts.values().sum::<usize>(), numbers.join(" | "))?;
        }
        Ok(())
    }
}
