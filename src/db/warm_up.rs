//! The first connection, made while the process starts and its first request is still on its way. Asks nothing for a
//! caller; whatever goes wrong here, the first call finds out for itself.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::connection::{Attempts, Lease};
use super::observed::Operation;
use super::{Db, DbError, leased, write};
use crate::telemetry::{Kind, Span};

/// How long a call waits for it, rather than make a connection of its own.
const WAIT: Duration = Duration::from_secs(1);

/// Whether it is under way.
pub(super) struct WarmUp(watch::Sender<bool>);

/// It is under way until this is dropped.
struct UnderWay<'a>(&'a WarmUp);

impl WarmUp {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Waits until it is over, or has taken too long.
    pub(super) async fn over(&self) {
        if *self.0.borrow() {
            let _ = timeout(WAIT, self.0.subscribe().wait_for(|under_way| !under_way)).await;
        }
    }

    fn begin(&self) -> UnderWay<'_> {
        self.0.send_replace(true);
        UnderWay(self)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.0.send_replace(false);
    }
}

impl Db {
    /// Fetches the signing keys, makes a connection and reads what has to be known of the server.
    pub async fn warm_up(&self) {
        let _under_way = self.warm_up.begin();
        let mut warming = Box::pin(async {
            leased!(self, Operation::Ready, |lease, _keys| self.facts(lease.connection()?).await.map(drop))
        });
        let warmed: Result<(), DbError> = Span::begin(Kind::Internal, "warm up").around(warming.as_mut()).await;
        if let Err(error) = warmed {
            tracing::debug!(error = &error as &dyn std::error::Error, "not warm");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn calls_wait_for_it_and_not_for_long() {
        let warm_up = WarmUp::new();
        assert!(warm_up.over().now_or_never().is_some());
        let under_way = warm_up.begin();
        let began = Instant::now();
        warm_up.over().await;
        assert_eq!(began.elapsed(), WAIT);
        let (_, waited) = tokio::join!(
            async {
                tokio::time::sleep(WAIT / 2).await;
                drop(under_way);
            },
            async {
                let began = Instant::now();
                warm_up.over().await;
                began.elapsed()
            }
        );
        assert_eq!(waited, WAIT / 2);
    }
}
