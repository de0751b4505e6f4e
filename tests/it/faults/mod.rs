//! Faults while callers ask: whatever breaks, an answer is right or a clear error, never a wrong row and never a hang,
//! and right answers come back when the cause has gone. How fast they do is reported, not asserted.
//! `scripts/faults` and `scripts/soak` run the long forms; docs/faults.md has what they measured.

mod answer;
mod clock;
mod cluster;
mod database;
mod disk;
mod handler;
mod load;
mod proxy;
mod services;
mod silence;
mod soak;
mod tally;

use std::time::{Duration, Instant};

use tally::Report;

use load::Load;

/// By when right answers have to be back, on a machine that has other things to do.
const BACK: Duration = Duration::from_secs(180);

/// How long each part of a trial is.
#[derive(Clone, Copy)]
struct Span {
    clients: usize,
    /// Before the fault.
    before: Duration,
    /// How long the fault lasts.
    fault: Duration,
    /// Without an error, so that it is over.
    calm: Duration,
    long: bool,
}

impl Span {
    /// Short, in a run of all tests, or as long as `ROWGATE_TEST_FAULTS=long` has it.
    fn of_this_run() -> Self {
        let long = std::env::var("ROWGATE_TEST_FAULTS").is_ok_and(|value| value == "long");
        let ms = Duration::from_millis;
        if long {
            Self { clients: 32, before: ms(2_000), fault: ms(5_000), calm: ms(2_000), long }
        } else {
            Self { clients: 8, before: ms(200), fault: ms(1_000), calm: ms(300), long }
        }
    }
}

/// Faults, one after the other, under one load.
struct Trial {
    load: Load,
    span: Span,
    report: Report,
    failures: Vec<String>,
}

/// What is allowed of a fault besides right answers and clear errors.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Allowed {
    Nothing,
    /// Requests that meet no process.
    NoHandler,
    /// As `Nothing`; searches by words are no recovery yet.
    Words,
}

impl Trial {
    fn new(load: Load, span: Span) -> Self {
        Self { load, span, report: Report::default(), failures: Vec::new() }
    }

    /// Brings a fault about and takes its cause away again, by `cause`, and waits until all is well.
    async fn fault(&mut self, fault: &str, allowed: Allowed, cause: impl Future<Output = ()>) {
        if std::env::var("ROWGATE_TEST_FAULTS_ONLY").is_ok_and(|only| !fault.contains(&only)) {
            return;
        }
        self.load.tally.take();
        tokio::time::sleep(self.span.before).await;
        cause.await;
        let end = Instant::now();
        // How long the embedding service is left alone is known; nobody waits for that in the short form.
        let whole = allowed == Allowed::Words && self.span.long;
        let (mut right, mut calm) = self.load.tally.since(end, whole);
        while right < 20 || calm < self.span.calm {
            if end.elapsed() > BACK {
                self.failures.push(format!("{fault}: {right} right answers after its end"));
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            (right, calm) = self.load.tally.since(end, whole);
        }
        let count = self.load.tally.take();
        self.report.add(fault, &count, end, whole);
        self.failures.extend(count.wrong.iter().map(|wrong| format!("{fault}: {wrong}")));
        if allowed != Allowed::NoHandler && count.no_handler > 0 {
            self.failures.push(format!("{fault}: the handler did not answer {} times", count.no_handler));
        }
    }

    /// Every client gets its last answer.
    async fn finish(mut self, title: &str) {
        let tally = self.load.finish().await;
        self.failures.extend(tally.take().wrong.into_iter().map(|wrong| format!("at the end: {wrong}")));
        self.report.print(title);
        assert!(self.failures.is_empty(), "{:#?}", self.failures);
    }
}
