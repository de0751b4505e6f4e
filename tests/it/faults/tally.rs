//! What came of calls, counted from one moment to the next, and the table that is made of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What came of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Checked against what the superuser sees.
    Right,
    /// Right, by words because there was no vector.
    ByWords,
    /// One of our own sentences, with the status that belongs to it.
    Error(String),
    /// No process answered, or it died while it did.
    NoHandler,
    /// A wrong or foreign row, no answer in time, or none that can be read.
    Wrong(String),
}

/// The count since a moment.
#[derive(Default)]
pub(super) struct Count {
    pub(super) right: usize,
    pub(super) by_words: usize,
    pub(super) errors: BTreeMap<String, usize>,
    pub(super) no_handler: usize,
    pub(super) wrong: Vec<String>,
    pub(super) longest: Duration,
    /// When calls that need the database or a search ended, and what they were.
    ended: Vec<(Instant, Kind)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Whole,
    Degraded,
    Failed,
}

#[derive(Default)]
pub(super) struct Tally(Mutex<Count>);

impl Tally {
    pub(super) fn note(&self, started: Instant, needs_data: bool, outcome: Outcome) {
        let mut count = self.0.lock().unwrap();
        count.longest = count.longest.max(started.elapsed());
        let kind = match outcome {
            Outcome::Right => {
                count.right += 1;
                Kind::Whole
            }
            Outcome::ByWords => {
                count.by_words += 1;
                Kind::Degraded
            }
            Outcome::Error(sentence) => {
                *count.errors.entry(sentence).or_default() += 1;
                Kind::Failed
            }
            Outcome::NoHandler => {
                count.no_handler += 1;
                Kind::Failed
            }
            Outcome::Wrong(what) => {
                count.wrong.push(what);
                Kind::Failed
            }
        };
        if needs_data || kind == Kind::Failed {
            count.ended.push((Instant::now(), kind));
        }
    }

    /// The count so far; the next one begins.
    pub(super) fn take(&self) -> Count {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// Right answers, from data, since a moment; and how long ago the last other answer was. `whole`: not by words.
    pub(super) fn since(&self, moment: Instant, whole: bool) -> (usize, Duration) {
        let count = self.0.lock().unwrap();
        let good = |kind: Kind| kind == Kind::Whole || kind == Kind::Degraded && !whole;
        let right = count.ended.iter().filter(|(at, kind)| *at > moment && good(*kind)).count();
        let last = count.ended.iter().rev().find(|(_, kind)| !good(*kind));
        (right, last.map_or(moment, |(at, _)| (*at).max(moment)).elapsed())
    }
}

impl Count {
    pub(super) fn failed(&self) -> usize {
        self.errors.values().sum::<usize>() + self.no_handler
    }

    /// From a moment to the first right answer after it, and to the last that was none.
    fn recovery(&self, end: Instant, whole: bool) -> (Option<Duration>, Duration) {
        let after = || self.ended.iter().filter(|(at, _)| *at > end);
        let bad = |kind: Kind| kind == Kind::Failed || kind == Kind::Degraded && whole;
        let first = after().find(|(_, kind)| !bad(*kind)).map(|(at, _)| *at - end);
        let last = after().rfind(|(_, kind)| bad(*kind)).map(|(at, _)| *at - end);
        (first, last.unwrap_or_default())
    }

    pub(super) fn kinds(&self) -> String {
        let mut all: Vec<_> = self.errors.iter().map(|(sentence, times)| format!("{times} × {sentence}")).collect();
        if self.no_handler > 0 {
            all.push(format!("{} × no handler", self.no_handler));
        }
        all.join(", ")
    }
}

/// The report of all faults.
#[derive(Default)]
pub(super) struct Report(String);

impl Report {
    /// Adds a fault whose cause ended at a moment. `whole`: searches by words count as not yet recovered.
    pub(super) fn add(&mut self, fault: &str, count: &Count, end: Instant, whole: bool) {
        let (first, last) = count.recovery(end, whole);
        let ms = |time: Duration| format!("{} ms", time.as_millis());
        let _ = writeln!(
            self.0,
            "| {fault} | {} | {} | {} | {} | {} | {} | {} | {} |",
            count.right,
            count.by_words,
            count.failed(),
            count.wrong.len(),
            ms(count.longest),
            first.map_or("never".to_owned(), ms),
            ms(last),
            count.kinds(),
        );
    }

    pub(super) fn print(&self, title: &str) {
        println!(
            "\n{title}\n\n| fault | right | by words | clear errors | wrong | longest answer | first right after | \
             errors until | errors |\n|---|---|---|---|---|---|---|---|---|\n{}",
            self.0
        );
    }
}
