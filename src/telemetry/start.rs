//! What a process spends its start on, from its first instruction to its first answer: each phase counts once, and all of
//! them are told in one line when the first call has been answered.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::measure;

/// A part of a start. The later ones may run at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// From the process's start to its open socket.
    Listen,
    /// The first secret of the vault.
    Secret,
    /// The first token of the managed identity.
    Token,
    /// The first connection to the database.
    Connect,
    /// Reading what has to be known of the database.
    Facts,
    /// The first call's own work in the database.
    Query,
}

const NAMES: [&str; 6] = ["listen", "secret", "token", "connect", "facts", "query"];

static BEGAN: OnceLock<Instant> = OnceLock::new();
static SPENT: [OnceLock<Duration>; 6] = [const { OnceLock::new() }; 6];
static ANSWERED: OnceLock<()> = OnceLock::new();

/// The process begins.
pub fn begin() {
    BEGAN.get_or_init(Instant::now);
}

/// A phase took so long. Only its first time is a part of the start.
pub fn spent(phase: Phase, took: Duration) {
    let n = phase as usize;
    if let (Some(slot), Some(name)) = (SPENT.get(n), NAMES.get(n))
        && slot.set(took).is_ok()
    {
        measure::started(name, took);
    }
}

/// The socket is open.
pub fn listening() {
    if let Some(began) = BEGAN.get() {
        spent(Phase::Listen, began.elapsed());
    }
}

/// A call was answered. The first one for which the database worked is told.
pub fn answered(took: Duration) {
    let worked = SPENT.get(Phase::Query as usize).is_some_and(|spent| spent.get().is_some());
    if worked && ANSWERED.set(()).is_ok() {
        let milliseconds = |phase: Phase| {
            let spent = SPENT.get(phase as usize).and_then(OnceLock::get);
            spent.map_or(0.0, |spent| (spent.as_secs_f64() * 1e5).round() / 1e2)
        };
        tracing::info!(
            since_start_ms = BEGAN.get().map_or(0, |began| began.elapsed().as_millis() as u64),
            call_ms = took.as_millis() as u64,
            listen_ms = milliseconds(Phase::Listen),
            secret_ms = milliseconds(Phase::Secret),
            token_ms = milliseconds(Phase::Token),
            connect_ms = milliseconds(Phase::Connect),
            facts_ms = milliseconds(Phase::Facts),
            query_ms = milliseconds(Phase::Query),
            "first call"
        );
    }
}
