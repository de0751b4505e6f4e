//! A tenant's keys, read when they are first needed and kept. However many need them, one request is on its way, and
//! no token, forged or not, makes it more than one a minute.

use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::{Client, StatusCode, redirect};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::EntraRefusal;
use super::directory::{Directory, Tenant};
use super::key_set::{self, KeySet, SigningKey};

/// From this age on keys are read again. Microsoft asks for once a day.
const FRESH: Duration = Duration::from_secs(24 * 3600);
/// At this age keys are nobody's any more, even if there are no newer ones.
const TRUSTED: Duration = Duration::from_secs(7 * 24 * 3600);
/// Least time between two requests for the sake of keys that nobody has heard of, or after one that failed.
const PAUSE: Duration = Duration::from_secs(60);
/// The same where there are no keys at all, so that no token can be checked.
const SHORT_PAUSE: Duration = Duration::from_secs(5);

const CONNECT: Duration = Duration::from_secs(3);
/// Longest time for all requests of one reading and their answers.
const DEADLINE: Duration = Duration::from_secs(5);
/// The public cloud's keys have about 20 kB.
const ANSWER_BYTES: usize = 256 << 10;

/// Finds keys by their ids.
pub(super) struct SigningKeys(Arc<Inner>);

struct Inner {
    directory: Directory,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    kept: Option<Kept>,
    /// When the last reading failed. None if it did not.
    failed: Option<Instant>,
    /// When keys were last read although others were known, for the sake of one that was not.
    searched: Option<Instant>,
    /// Closed when the reading that is on its way has ended, however it did.
    reading: Option<watch::Receiver<()>>,
}

struct Kept {
    keys: KeySet,
    since: Instant,
}

/// What to do about a key.
enum Step {
    Done(Result<Arc<SigningKey>, EntraRefusal>),
    Wait(watch::Receiver<()>),
}

/// Why there are no new keys.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("the request failed")]
    Request(#[from] reqwest::Error),
    #[error("no answer in time")]
    TimedOut,
    #[error("the answer has status {0}")]
    Status(StatusCode),
    #[error("the answer is {0}")]
    Answer(&'static str),
}

#[derive(Deserialize)]
struct Configuration {
    issuer: String,
}

impl SigningKeys {
    pub(super) fn new(directory: Directory) -> Self {
        Self(Arc::new(Inner { directory, state: Mutex::default() }))
    }

    /// The key of this id. Reads the keys first if it has to, and again if they are old.
    pub(super) async fn find(&self, id: &str) -> Result<Arc<SigningKey>, EntraRefusal> {
        match self.0.look_up(id) {
            Step::Done(outcome) => outcome,
            Step::Wait(mut reading) => {
                // Nothing is ever sent: this ends when the reading does.
                while reading.changed().await.is_ok() {}
                self.0.after_reading(id)
            }
        }
    }
}

impl Inner {
    fn look_up(self: &Arc<Self>, id: &str) -> Step {
        let now = Instant::now();
        let mut state = self.state();
        if let Some((key, age)) = state.known(id, now) {
            if age >= FRESH && state.reading().is_none() && state.may_read(now) {
                self.start(&mut state);
            }
            return Step::Done(Ok(key));
        }
        if let Some(reading) = state.reading() {
            return Step::Wait(reading);
        }
        let searches = state.kept(now).is_some();
        let may_search = state.searched.is_none_or(|at| now >= at + PAUSE);
        if !state.may_read(now) || searches && !may_search {
            return Step::Done(Err(state.refusal(now)));
        }
        if searches {
            state.searched = Some(now);
        }
        Step::Wait(self.start(&mut state))
    }

    fn after_reading(&self, id: &str) -> Result<Arc<SigningKey>, EntraRefusal> {
        let now = Instant::now();
        let state = self.state();
        state.known(id, now).map(|(key, _)| key).ok_or_else(|| state.refusal(now))
    }

    /// Starts to read the keys. A task of its own does it, so that it ends even if nobody waits for it any more.
    fn start(self: &Arc<Self>, state: &mut State) -> watch::Receiver<()> {
        let (ends, reading) = watch::channel(());
        state.reading = Some(reading.clone());
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            let outcome = timeout(DEADLINE, inner.read()).await.unwrap_or(Err(ReadError::TimedOut));
            inner.learn(outcome);
            drop(ends);
        });
        reading
    }

    fn learn(&self, outcome: Result<KeySet, ReadError>) {
        let now = Instant::now();
        let mut state = self.state();
        match outcome {
            Ok(keys) => {
                state.kept = Some(Kept { keys, since: now });
                state.failed = None;
            }
            Err(error) => {
                state.failed = Some(now);
                tracing::warn!(
                    error = &error as &dyn StdError,
                    "the signing keys of Microsoft Entra could not be read"
                );
            }
        }
    }

    async fn read(&self) -> Result<KeySet, ReadError> {
        // A client for each reading: there is one a day, and an idle client keeps a connection and all certificates.
        let client = Client::builder()
            .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            // Keys from another host would be another's keys.
            .redirect(redirect::Policy::none());
        // What stays on this machine is for no proxy of the environment to carry.
        let client = if self.directory.is_here() { client.no_proxy() } else { client }.build()?;
        let issuer = match self.directory.tenant() {
            Tenant::Id(id) => self.directory.issuer(id.clone()),
            // Tokens name their tenant by its id only.
            Tenant::Domain(_) => {
                let body = get(&client, &self.directory.configuration()).await?;
                let configuration = serde_json::from_slice::<Configuration>(&body).ok();
                let issuer = configuration.and_then(|c| self.directory.issuer_named(&c.issuer));
                issuer.ok_or(ReadError::Answer("no configuration of a tenant"))?
            }
        };
        let body = get(&client, &self.directory.keys()).await?;
        let keys = key_set::read(&body, &Arc::new(issuer)).ok_or(ReadError::Answer("no set of keys"))?;
        if keys.is_empty() {
            return Err(ReadError::Answer("a set without a key for the tenant's signatures"));
        }
        Ok(keys)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn kept(&self, now: Instant) -> Option<&Kept> {
        self.kept.as_ref().filter(|kept| now < kept.since + TRUSTED)
    }

    /// A key that is kept, and its age.
    fn known(&self, id: &str, now: Instant) -> Option<(Arc<SigningKey>, Duration)> {
        let kept = self.kept(now)?;
        Some((Arc::clone(kept.keys.get(id)?), now - kept.since))
    }

    fn reading(&self) -> Option<watch::Receiver<()>> {
        self.reading.clone().filter(|reading| reading.has_changed().is_ok())
    }

    /// The end of the pause after a reading that failed.
    fn paused_until(&self, now: Instant) -> Option<Instant> {
        Some(self.failed? + if self.kept(now).is_some() { PAUSE } else { SHORT_PAUSE })
    }

    fn may_read(&self, now: Instant) -> bool {
        self.paused_until(now).is_none_or(|until| now >= until)
    }

    /// Why there is no such key. After a reading that failed nobody knows: the key can be a new one.
    fn refusal(&self, now: Instant) -> EntraRefusal {
        match self.paused_until(now) {
            Some(until) => EntraRefusal::unavailable(until.saturating_duration_since(now)),
            None => EntraRefusal::UnknownKey,
        }
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKeys").field(&self.0.directory).finish()
    }
}

/// The body of an answer, if it is an answer and not too long.
async fn get(client: &Client, url: &str) -> Result<Vec<u8>, ReadError> {
    let mut response = client.get(url).header("accept", "application/json").send().await?;
    if response.status() != StatusCode::OK {
        return Err(ReadError::Status(response.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if chunk.len() > ANSWER_BYTES - body.len() {
            return Err(ReadError::Answer("too long"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
