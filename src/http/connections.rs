//! The connections that are open. There are so many at most, and before there are, the oldest of those that ask nothing
//! makes room: sockets that are only held open keep nobody out. Knows no HTTP.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Most connections at a time: below the 1,024 file descriptors that a process has by default.
const MOST: u32 = 512;

/// So many are kept free while there are connections that ask nothing.
const SPARE: usize = 32;

/// All connections.
pub(super) struct Connections {
    seats: Arc<Semaphore>,
    /// By age. One that was told to leave is not among them any more.
    open: Mutex<BTreeMap<u64, Conversation>>,
    next: AtomicU64,
}

/// What goes on over one connection.
#[derive(Clone, Default)]
pub(super) struct Conversation(Arc<State>);

#[derive(Default)]
struct State {
    asking: AtomicUsize,
    leave: Notify,
}

/// A request that came in whole is being answered, or an answer being sent, until this is dropped.
pub(super) struct Asking(Conversation);

/// A connection's place, given back when this is dropped.
pub(super) struct Seat {
    connections: Arc<Connections>,
    number: u64,
    conversation: Conversation,
    _permit: OwnedSemaphorePermit,
}

impl Connections {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            seats: Arc::new(Semaphore::new(MOST as usize)),
            open: Mutex::default(),
            next: AtomicU64::default(),
        })
    }

    /// A place for the next connection, as soon as there is one. `None` never comes while the server runs.
    pub(super) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.seats).acquire_owned().await.ok()
    }

    /// A connection takes its place.
    pub(super) fn take(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Seat {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let conversation = Conversation::default();
        let mut open = self.open();
        if self.seats.available_permits() < SPARE {
            let idle = open.iter().find(|(_, conversation)| !conversation.is_asking()).map(|(number, _)| *number);
            if let Some(conversation) = idle.and_then(|number| open.remove(&number)) {
                conversation.0.leave.notify_one();
            }
        }
        open.insert(number, conversation.clone());
        drop(open);
        Seat { connections: Arc::clone(self), number, conversation, _permit: permit }
    }

    /// Tells all to leave, and waits until they have.
    pub(super) async fn end(&self) {
        self.open().values().for_each(|conversation| conversation.0.leave.notify_one());
        let _ = self.seats.acquire_many(MOST).await;
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, Conversation>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Conversation {
    /// From now on a request is being answered.
    pub(super) fn asks(self) -> Asking {
        self.0.asking.fetch_add(1, Ordering::AcqRel);
        Asking(self)
    }

    /// Whether a request is being answered.
    pub(super) fn is_asking(&self) -> bool {
        self.0.asking.load(Ordering::Acquire) > 0
    }

    /// Waits until this connection has to leave.
    pub(super) async fn told_to_leave(&self) {
        self.0.leave.notified().await;
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.0.asking.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Seat {
    pub(super) fn conversation(&self) -> &Conversation {
        &self.conversation
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.connections.open().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn leaves(seat: &Seat) -> bool {
        seat.conversation().told_to_leave().now_or_never().is_some()
    }

    #[tokio::test]
    async fn the_oldest_that_asks_nothing_makes_room() {
        let connections = Connections::new();
        let mut seats = Vec::new();
        for _ in 0..MOST as usize - SPARE {
            seats.push(connections.take(connections.permit().await.unwrap()));
        }
        assert!(!seats.iter().any(leaves));
        let asking = seats[0].conversation().clone().asks();
        let newest = connections.take(connections.permit().await.unwrap());
        // The oldest asks, so it is the next one's turn, once.
        assert_eq!(seats.iter().map(leaves).collect::<Vec<_>>()[..3], [false, true, false]);
        assert!(!leaves(&seats[1]) && !leaves(&newest));
        drop(asking);
        let _newer = connections.take(connections.permit().await.unwrap());
        assert!(leaves(&seats[0]));
    }

    #[tokio::test]
    async fn there_is_an_end_once_all_have_left() {
        let connections = Connections::new();
        let seat = connections.take(connections.permit().await.unwrap());
        let _asking = seat.conversation().clone().asks();
        assert!(connections.end().now_or_never().is_none());
        assert!(leaves(&seat));
        drop(seat);
        assert!(connections.end().now_or_never().is_some());
    }
}
