//! Sends what was recorded as soon as nothing is asked any more: an instance that has nothing to do may be frozen or ended
//! before the exporters' own time comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::export::Exports;

/// How long nothing may have been asked before what was recorded is sent.
const QUIET: Duration = Duration::from_millis(500);

/// Requests in flight. Clones count together.
#[derive(Clone)]
pub struct InFlight(Arc<Inner>);

struct Inner {
    exports: Exports,
    now: AtomicUsize,
    /// Requests that began, ever.
    began: AtomicU64,
    /// Whether somebody waits for quiet already.
    awaited: AtomicBool,
}

/// One request, until this is dropped.
pub struct Asked(Option<InFlight>);

impl InFlight {
    pub(super) fn new(exports: Exports) -> Self {
        let (now, began, awaited) = Default::default();
        Self(Arc::new(Inner { exports, now, began, awaited }))
    }

    /// A request begins.
    pub fn asked(&self) -> Asked {
        if !self.0.exports.pushes() {
            return Asked(None);
        }
        self.0.now.fetch_add(1, Ordering::AcqRel);
        self.0.began.fetch_add(1, Ordering::AcqRel);
        Asked(Some(self.clone()))
    }

    async fn send_when_quiet(self) {
        loop {
            let seen = self.0.began.load(Ordering::Acquire);
            tokio::time::sleep(QUIET).await;
            // Whoever ends last while this is false waits for quiet next.
            if self.0.now.load(Ordering::Acquire) > 0 {
                self.0.awaited.store(false, Ordering::Release);
                return;
            }
            if self.0.began.load(Ordering::Acquire) == seen {
                break;
            }
        }
        self.0.awaited.store(false, Ordering::Release);
        // A thread that panicked has nothing to send.
        let _ = tokio::task::spawn_blocking(move || self.0.exports.flush()).await;
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let Some(in_flight) = self.0.take() else { return };
        if in_flight.0.now.fetch_sub(1, Ordering::AcqRel) == 1
            && !in_flight.0.awaited.swap(true, Ordering::AcqRel)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(in_flight.send_when_quiet());
        }
    }
}
