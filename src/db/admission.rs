//! Who may wait for a connection, so that no queue grows without end and no caller takes all connections: at most so
//! many calls at once in all, at most so many of one caller, and fewer of them than there are connections.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::DbError;
use crate::domain::Principal;

/// The door to the pool.
pub(super) struct Admission {
    calls: Arc<Semaphore>,
    callers: Arc<Mutex<HashMap<Principal, Present>>>,
    per_caller: usize,
    at_work: usize,
    wait: Duration,
}

/// The calls of one caller.
struct Present {
    calls: usize,
    at_work: Arc<Semaphore>,
}

/// A call that was let in; it leaves when this is dropped.
pub(super) struct Admitted {
    _call: OwnedSemaphorePermit,
    _at_work: OwnedSemaphorePermit,
    _seat: Seat,
}

/// A place among the calls of a caller, taken while it waits too.
struct Seat {
    callers: Arc<Mutex<HashMap<Principal, Present>>>,
    principal: Principal,
}

impl Admission {
    /// `calls`: at once in all, those that wait too; `per_caller`: the same of one caller; `connections`: of which one
    /// is always left to others; `wait`: how long a call waits.
    pub(super) fn new(calls: usize, per_caller: usize, connections: usize, wait: Duration) -> Self {
        Self {
            calls: Arc::new(Semaphore::new(calls)),
            callers: Arc::default(),
            per_caller,
            at_work: connections.saturating_sub(1).max(1),
            wait,
        }
    }

    /// Lets a call in, at once or after a while, or says that there is no room.
    pub(super) async fn admit(&self, principal: &Principal) -> Result<Admitted, DbError> {
        let call = Arc::clone(&self.calls).try_acquire_owned().map_err(|_| DbError::Busy)?;
        let (seat, at_work) = self.seat(principal)?;
        let at_work = timeout(self.wait, at_work.acquire_owned()).await;
        // The semaphore is never closed.
        let at_work = at_work.map_err(|_| DbError::Crowded)?.map_err(|_| DbError::Crowded)?;
        Ok(Admitted { _call: call, _at_work: at_work, _seat: seat })
    }

    fn seat(&self, principal: &Principal) -> Result<(Seat, Arc<Semaphore>), DbError> {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let present = callers
            .entry(principal.clone())
            .or_insert_with(|| Present { calls: 0, at_work: Arc::new(Semaphore::new(self.at_work)) });
        if present.calls >= self.per_caller {
            return Err(DbError::Crowded);
        }
        present.calls += 1;
        let seat = Seat { callers: Arc::clone(&self.callers), principal: principal.clone() };
        Ok((seat, Arc::clone(&present.at_work)))
    }
}

impl Seat {
    fn callers(&self) -> MutexGuard<'_, HashMap<Principal, Present>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut callers = self.callers();
        if let Some(present) = callers.get_mut(&self.principal) {
            present.calls -= 1;
            if present.calls == 0 {
                callers.remove(&self.principal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(text: &str) -> Principal {
        Principal::parse(text).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn no_caller_takes_all_and_nobody_is_forgotten() {
        let admission = Admission::new(6, 4, 3, Duration::from_secs(5));
        let (greedy, other) = (principal("greedy"), principal("other"));
        let first = admission.admit(&greedy).await.unwrap();
        let second = admission.admit(&greedy).await.unwrap();
        // The third waits for one of the two, and in vain.
        assert!(matches!(admission.admit(&greedy).await, Err(DbError::Crowded)));
        // Meanwhile another caller is let in at once.
        let third = admission.admit(&other).await.unwrap();
        let waiting = admission.admit(&greedy);
        tokio::pin!(waiting);
        assert!(timeout(Duration::from_secs(1), &mut waiting).await.is_err());
        drop(first);
        let fourth = waiting.await.unwrap();
        drop((second, third, fourth));
        assert!(admission.callers.lock().unwrap().is_empty());
        assert_eq!(admission.calls.available_permits(), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn queues_end() {
        let admission = Arc::new(Admission::new(6, 4, 2, Duration::from_secs(5)));
        let greedy = principal("greedy");
        let held = admission.admit(&greedy).await.unwrap();
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let (admission, greedy) = (Arc::clone(&admission), greedy.clone());
                tokio::spawn(async move { admission.admit(&greedy).await.map(drop) })
            })
            .collect();
        tokio::task::yield_now().await;
        // Four of one caller, one of them at work: the next is refused without waiting.
        let now = tokio::time::Instant::now();
        assert!(matches!(admission.admit(&greedy).await, Err(DbError::Crowded)));
        let _a = admission.admit(&principal("a")).await.unwrap();
        let _b = admission.admit(&principal("b")).await.unwrap();
        assert!(matches!(admission.admit(&principal("c")).await, Err(DbError::Busy)));
        assert_eq!(now.elapsed(), Duration::ZERO);
        drop(held);
        for waiting in waiting {
            waiting.await.unwrap().unwrap();
        }
    }
}
