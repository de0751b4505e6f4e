//! Telling a server that is slow from one that has gone without a word, as at a fail-over or behind a firewall that
//! forgot a connection: no packet comes any more, and the system takes a quarter of an hour to find that out. Who hears
//! nothing for a moment has a new connection asked the same; if that one is answered first, the old one is given up.

use std::time::Duration;

use deadpool::managed::Pool;
use futures_util::future::{join, pending};
use futures_util::{FutureExt, pin_mut};
use tokio::select;
use tokio::sync::{Mutex, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use super::DbError;
use super::connection::{Connection, ConnectionManager};

/// How long a server may be silent before another connection is asked, and how long until the next one is.
const QUIET: Duration = Duration::from_millis(300);

/// What is known of connections that say nothing.
pub(super) struct Silence {
    pool: Pool<ConnectionManager>,
    longest: Duration,
    turn: Mutex<()>,
    answered: watch::Sender<Option<Instant>>,
}

impl Silence {
    /// `longest`: after so long a connection is given up whatever others do.
    pub(super) fn new(pool: Pool<ConnectionManager>, longest: Duration) -> Self {
        Self { pool, longest, turn: Mutex::new(()), answered: watch::Sender::new(None) }
    }

    /// Waits for what was asked of a connection, unless `heard`, the first sign of an answer, is overdue: it is one that
    /// the server gives without working for it. How long the work takes is another matter.
    pub(super) async fn listen<T>(
        &self,
        heard: impl Future,
        answer: impl Future<Output = Result<T, DbError>>,
    ) -> Result<T, DbError> {
        let asked = Instant::now();
        let silent = async {
            select! {
                biased;
                _ = heard => pending().await,
                _ = timeout(self.longest, self.another_is_answered(asked)) => {}
            }
        };
        select! {
            biased;
            answer = answer => answer,
            () = silent => Err(DbError::Silent(asked.elapsed())),
        }
    }

    /// Waits for something that is asked outside of a transaction, which takes the server a moment.
    pub(super) async fn soon<T>(
        &self,
        connection: &Connection,
        answer: impl Future<Output = Result<T, DbError>>,
    ) -> Result<T, DbError> {
        let (say, heard) = oneshot::channel::<()>();
        // Nothing, which is answered at once.
        let nothing = connection.batch_execute("").map(|_| drop(say));
        let all = self.listen(heard, join(nothing, answer).map(|(_, answer)| answer));
        timeout(self.longest, all).await.unwrap_or(Err(DbError::Silent(self.longest)))
    }

    /// Ends when a connection was made and answered that was asked after the one that is silent.
    async fn another_is_answered(&self, asked: Instant) {
        sleep(QUIET).await;
        let mut answered = self.answered.subscribe();
        let others = answered.wait_for(|since| since.is_some_and(|since| since > asked)).map(drop);
        let own = self.ask();
        pin_mut!(others, own);
        select! {
            () = others => {}
            () = own => {}
        }
    }

    /// Makes connections, one at a time for the whole pool, until one is answered, and closes it again: for that moment
    /// there is one more than the pool has. Through a pooler its question waits in the same queue as the others, so that
    /// it is answered before them only if nobody is there to answer them.
    async fn ask(&self) {
        let _turn = self.turn.lock().await;
        loop {
            let since = Instant::now();
            if self.pool.manager().is_answered().await {
                self.answered.send_replace(Some(since));
                return;
            }
            sleep(QUIET).await;
        }
    }
}
