//! Leaves a service alone that fails: spares those who ask the wait, and the service the load.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::embedding::{Embedded, EmbeddingError};

/// So many failed calls in a row open the circuit.
const FAILURES: u32 = 5;
/// For how long, unless the service asks for another time.
const PAUSE: Duration = Duration::from_secs(10);
/// Azure has been seen to ask for a day. A call every five minutes finds out whether it means that.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

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
    pub(super) fn admit(&self, longest: Duration) -> Result<(), EmbeddingError> {
        let mut state = self.state();
        let Some(until) = state.open_until else { return Ok(()) };
        let now = Instant::now();
        if now < until {
            return Err(EmbeddingError::CircuitOpen { retry_after: until - now });
        }
        // Half-open: this call tries, the others wait for it. Should it be dropped, another may try when it was to end.
        state.open_until = Some(now + longest);
        Ok(())
    }

    /// Takes note of how a call ended.
    pub(super) fn learn(&self, outcome: &Result<Embedded, EmbeddingError>) {
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

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
