//! Leaves a service alone that fails: spares those who ask the wait, and the service the load. One call at a time finds
//! out whether it is back, less than a second after the last one did.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::embedding::{Embedded, EmbeddingError};

/// So many failed calls in a row open the circuit.
const FAILURES: u32 = 5;
/// From the beginning of a call that failed to the next that may try, unless the service asks for another time. It
/// doubles once.
const PAUSE: Duration = Duration::from_millis(300);
const LONGEST_PAUSE: Duration = Duration::from_millis(600);
/// A call that was dropped after so long is a failed one: nobody waits for ever for a service that hangs.
const PATIENCE: Duration = Duration::from_secs(3);
/// Azure has been seen to ask for a day. A call every five minutes finds out whether it means that.
const LONGEST_ASKED: Duration = Duration::from_secs(300);

/// A call that was let through. Dropped before its outcome is known, it tells how long it was waited for.
pub(super) struct Trying<'a> {
    circuit: &'a Circuit,
    began: Instant,
    is_trial: bool,
    learned: bool,
}

/// Lets calls through while it is closed, refuses them at once while it is open, and then lets one try.
#[derive(Debug, Default)]
pub(super) struct Circuit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Failed calls since the last one that did not.
    failed: u32,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    until: Instant,
    pause: Duration,
}

impl Circuit {
    /// Asks for a call that takes `longest` at most.
    pub(super) fn admit(&self, longest: Duration) -> Result<Trying<'_>, EmbeddingError> {
        let mut state = self.state();
        let began = Instant::now();
        let is_trial = match &mut state.open {
            None => false,
            Some(open) if began < open.until => {
                return Err(EmbeddingError::CircuitOpen { retry_after: open.until - began });
            }
            // Half-open: this call tries, the others wait for it.
            Some(open) => {
                open.until = began + longest;
                true
            }
        };
        Ok(Trying { circuit: self, began, is_trial, learned: false })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trying<'_> {
    /// Whether this call alone finds out if the service is back.
    pub(super) fn is_trial(&self) -> bool {
        self.is_trial
    }

    /// Takes note of how the call ended.
    pub(super) fn learn(mut self, outcome: &Result<Embedded, EmbeddingError>) {
        self.learned = true;
        match outcome {
            // Who refuses is there: one caller's bad text must not stop the others.
            Ok(_) | Err(EmbeddingError::Refused { .. }) => *self.circuit.state() = State::default(),
            Err(EmbeddingError::Busy { retry_after: Some(asked), .. }) => self.failed(LONGEST_ASKED.min(*asked)),
            Err(_) => self.failed(Duration::ZERO),
        }
    }

    /// `asked`: how long the service wants to be left alone, from now on.
    fn failed(&self, asked: Duration) {
        let mut state = self.circuit.state();
        state.failed = state.failed.saturating_add(1);
        let (asked, opens) = (Instant::now() + asked, state.failed >= FAILURES);
        match &mut state.open {
            Some(open) if self.is_trial => {
                open.pause = LONGEST_PAUSE.min(open.pause * 2);
                open.until = asked.max(self.began + open.pause);
            }
            // One of those that were under way when it opened; a trial has the last word.
            Some(open) => open.until = asked.max(open.until),
            none if opens => *none = Some(Open { until: asked.max(Instant::now() + PAUSE), pause: PAUSE }),
            None => {}
        }
    }
}

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        if self.learned {
            return;
        }
        if self.began.elapsed() >= PATIENCE {
            self.failed(Duration::ZERO);
        } else if self.is_trial
            && let Some(open) = &mut self.circuit.state().open
        {
            // Nobody waits for its outcome, so another may try.
            open.until = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn works() -> Result<Embedded, EmbeddingError> {
        Ok(Embedded { vectors: Vec::new(), tokens: 0 })
    }

    fn fails() -> Result<Embedded, EmbeddingError> {
        Err(EmbeddingError::TimedOut)
    }

    fn asks(seconds: u64) -> Result<Embedded, EmbeddingError> {
        Err(EmbeddingError::Busy { retry_after: Some(Duration::from_secs(seconds)), message: String::new() })
    }

    fn opened(by: impl Fn() -> Result<Embedded, EmbeddingError>) -> Circuit {
        let circuit = Circuit::default();
        for _ in 0..FAILURES {
            circuit.admit(LONG).unwrap().learn(&by());
        }
        circuit
    }

    fn left(circuit: &Circuit) -> Duration {
        match circuit.admit(LONG) {
            Err(EmbeddingError::CircuitOpen { retry_after }) => retry_after,
            other => panic!("{:?}", other.map(|trying| trying.is_trial)),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_tries_and_the_others_wait() {
        let circuit = opened(fails);
        assert_eq!(left(&circuit), ms(300));
        advance(ms(300)).await;
        let trial = circuit.admit(LONG).unwrap();
        assert!(trial.is_trial());
        assert_eq!(left(&circuit), LONG);
        // The pause goes from one beginning to the next, and stays below a second however long it lasts.
        advance(ms(100)).await;
        trial.learn(&fails());
        assert_eq!(left(&circuit), ms(500));
        for _ in 0..10 {
            advance(ms(600)).await;
            circuit.admit(LONG).unwrap().learn(&fails());
            assert_eq!(left(&circuit), ms(600));
        }
        advance(ms(600)).await;
        circuit.admit(LONG).unwrap().learn(&works());
        assert!(!circuit.admit(LONG).unwrap().is_trial());
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_that_nobody_waits_for_makes_room_for_another() {
        let circuit = opened(fails);
        advance(ms(300)).await;
        let trial = circuit.admit(LONG).unwrap();
        advance(ms(200)).await;
        drop(trial);
        let trial = circuit.admit(LONG).unwrap();
        assert!(trial.is_trial());
        // One that hung waited for long enough.
        advance(PATIENCE).await;
        drop(trial);
        assert!(circuit.admit(LONG).unwrap().is_trial());
    }

    #[tokio::test(start_paused = true)]
    async fn those_under_way_do_not_disturb_a_trial() {
        let circuit = Circuit::default();
        let late = [(); 3].map(|()| circuit.admit(LONG).unwrap());
        for _ in 0..FAILURES {
            circuit.admit(LONG).unwrap().learn(&fails());
        }
        let [first, second, third] = late;
        first.learn(&fails());
        assert_eq!(left(&circuit), ms(300));
        advance(ms(300)).await;
        let trial = circuit.admit(LONG).unwrap();
        second.learn(&fails());
        assert_eq!(left(&circuit), LONG);
        trial.learn(&fails());
        // Who is answered is answered, whenever it asked.
        third.learn(&works());
        assert!(!circuit.admit(LONG).unwrap().is_trial());
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_is_left_alone_for_as_long_as_it_asks() {
        for (asked, left_alone) in [(0, ms(300)), (1, ms(1_000)), (60, ms(60_000)), (86_400, ms(300_000))] {
            let circuit = opened(|| asks(asked));
            assert_eq!(left(&circuit), left_alone);
        }
        let circuit = opened(fails);
        advance(ms(300)).await;
        circuit.admit(LONG).unwrap().learn(&asks(7));
        assert_eq!(left(&circuit), ms(7_000));
    }
}
