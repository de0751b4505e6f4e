//! Reading one variable after the other, and keeping every problem instead of stopping at the first.

use std::collections::BTreeMap;
use std::time::Duration;

use super::GivenSettings;
use super::variables::VARIABLES;

/// An environment being read, with what is wrong in it so far.
pub(super) struct Reader {
    environment: BTreeMap<String, String>,
    problems: Vec<String>,
}

impl Reader {
    pub(super) fn new(environment: BTreeMap<String, String>) -> Self {
        Self { environment, problems: Vec::new() }
    }

    /// All that was wrong.
    pub(super) fn problems(self) -> Vec<String> {
        self.problems
    }

    /// A variable's text; an empty one counts as unset.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.environment.get(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty())
    }

    /// Which settings there are, by name.
    pub(super) fn given(&self) -> GivenSettings {
        let given = VARIABLES.iter().filter_map(|(name, unset, _)| Some((*name, *unset, self.text(name)?)));
        let given: Vec<_> = given.collect();
        let changed = given.iter().filter(|(_, unset, text)| text != unset).map(|(name, ..)| *name).collect();
        GivenSettings { count: given.len(), changed }
    }

    /// One more problem.
    pub(super) fn problem(&mut self, what: &str) {
        self.problems.push(what.to_owned());
    }

    /// Words separated by commas.
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        let text = self.text(name).unwrap_or_default();
        text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    pub(super) fn parsed<T>(&mut self, name: &str, unset: T, parse: impl FnOnce(&str) -> Result<T, String>) -> T {
        match self.text(name).map(|text| parse(&text)) {
            None => unset,
            Some(Ok(value)) => value,
            Some(Err(why)) => {
                self.problems.push(format!("{name}: {why}"));
                unset
            }
        }
    }

    pub(super) fn number(&mut self, name: &str, unset: usize, range: std::ops::RangeInclusive<usize>) -> usize {
        self.parsed(name, unset, |text| {
            text.parse()
                .ok()
                .filter(|n| range.contains(n))
                .ok_or_else(|| format!("not a number from {} to {}", range.start(), range.end()))
        })
    }

    pub(super) fn seconds(&mut self, name: &str, unset: usize, range: std::ops::RangeInclusive<usize>) -> Duration {
        Duration::from_secs(self.number(name, unset, range) as u64)
    }

    /// A database URL. Its parser's words are kept out: they can repeat the password.
    pub(super) fn database(&mut self, name: &str) -> Option<tokio_postgres::Config> {
        self.parsed(name, None, |text| {
            text.parse()
                .map(Some)
                .map_err(|_| "not a database URL, `postgres://user:password@host:port/database`".to_owned())
        })
    }

    pub(super) fn refuse_unknown(&mut self) {
        for name in self.environment.keys().filter(|n| n.starts_with("ROWGATE_")) {
            if VARIABLES.iter().all(|(known, ..)| known != name) {
                let near = VARIABLES
                    .iter()
                    .map(|(known, ..)| (strsim::damerau_levenshtein(known, name), known))
                    .min()
                    .filter(|(distance, _)| *distance <= 4)
                    .map(|(_, known)| format!("; did you mean {known}?"));
                self.problems.push(format!("{name}: no such setting{}", near.unwrap_or_default()));
            }
        }
    }
}

pub(super) fn origins(text: &str) -> Result<Vec<String>, String> {
    let origins: Vec<String> = text.split(',').map(str::trim).filter(|o| !o.is_empty()).map(str::to_owned).collect();
    match origins.iter().find(|o| !o.starts_with("http://") && !o.starts_with("https://")) {
        Some(bad) => Err(format!("{bad:?} is no origin: it starts with https:// or http://")),
        None => Ok(origins),
    }
}
