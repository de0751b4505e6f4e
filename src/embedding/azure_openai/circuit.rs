//! Leaves a service alone that fails: spares those who ask the wait, and the service the load.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::embedding::{Embedded, EmbeddingError};

/// So many failed calls in a row open the circuit.
const FAILURES: u32 = 5;
/// For how long, unless the service asks for another time.
const PAUSE: Duration = Duration::from_secs(10);
/// A call that was dropped after so long is a failed one: nobody waits for ever for a service that hangs.
const PATIENCE: Duration = Duration::from_secs(3);
/// Azure has been seen to ask for a day. A call every five minutes finds out whether it means that.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// A call that was let through. Dropped before its outcome is known, it tells how long it was waited for.
pub(super) struct Trying<'a> {
    circuit: &'a Circuit,
    began: Instant,
    learned: bool,
}

/// Lets calls through while it is closed, refuses them at once while it is open, and then lets one try.
#[derive(Debug, Default)]
pub(super) struct Circuit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Failed calls since the last one that did not.
    failed: u32,
    open_until: Option<Instant>,
}

impl Circuit {
    /// Asks for a call that takes `longest` at most.
    pub(super) fn admit(&self, longest: Duration) -> Result<Trying<'_>, EmbeddingError> {
        let mut state = self.state();
        let now = Instant::now();
        let trying = Trying { circuit: self, began: now, learned: false };
        let Some(until) = state.open_until else { return Ok(trying) };
        if now < until {
            return Err(EmbeddingError::CircuitOpen { retry_after: until - now });
        }
        // Half-open: this call tries, the others wait for it. Should it be dropped, another may try when it was to end.
        state.open_until = Some(now + longest);
        Ok(trying)
    }

    /// Takes note of how a call ended.
    fn learn(&self, outcome: &Result<Embedded, EmbeddingError>) {
        let mut state = self.state();
        let pause = match outcome {
            // Who refuses is there: one caller's bad text must not stop the others.
            Ok(_) | Err(EmbeddingError::Refused { .. }) => {
                *state = State::default();
                return;
            }
            Err(EmbeddingError::Busy { retry_after: Some(asked), .. }) => LONGEST_PAUSE.min(*asked),
            Err(_) => PAUSE,
        };
        state.failed = state.failed.saturating_add(1);
        if state.failed >= FAILURES {
            state.open_until = Some(Instant::now() + pause);
        }
    }

    /// As `learn`, of a call whose outcome nobody waited for.
    fn give_up(&self, waited: Duration) {
        if waited >= PATIENCE {
            self.learn(&Err(EmbeddingError::TimedOut));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trying<'_> {
    /// Takes note of how the call ended.
    pub(super) fn learn(mut self, outcome: &Result<Embedded, EmbeddingError>) {
        self.learned = true;
        self.circuit.learn(outcome);
    }
}

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        if !self.learned {
            self.circuit.give_up(self.began.elapsed());
        }
    }
}
