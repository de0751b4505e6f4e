//! Turning text into vectors: one trait, an implementation that asks Azure OpenAI and one that runs a model here.
//! Never holds a database connection, and never waits longer than its own time-outs.

mod azure_openai;
mod kept;
#[cfg(feature = "local-embedder")]
mod local;

use std::error::Error as StdError;
use std::time::Duration;

use futures_util::future::BoxFuture;

pub use azure_openai::{AzureOpenAi, AzureOpenAiSettings, Credential, TokenSource};
pub use kept::KeptVectors;
#[cfg(feature = "local-embedder")]
pub use local::LocalModel;

/// A model as rows know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddingModel {
    /// Its name.
    pub name: String,
    /// Numbers in a vector.
    pub dimensions: usize,
}

/// Vectors of some texts, in the order of the texts, and what they cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedded {
    /// As many as there were texts, each of the model's dimensions.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens that the model read.
    pub tokens: u64,
}

/// Why there are no vectors. Its text is for the log; it holds no credential and no text that was to be embedded,
/// unless the service itself repeats one in `message`.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddingError {
    /// No embedder can be made of the settings.
    #[error("the embedder can not be set up: {0}")]
    Settings(&'static str),
    /// There is no key or token to show.
    #[error("there is no credential for the embedding service")]
    Credential(#[source] Box<dyn StdError + Send + Sync>),
    /// No connection, or it broke before the answer was complete.
    #[error("the embedding service can not be reached")]
    Unreachable(#[source] Box<dyn StdError + Send + Sync>),
    /// The answer took longer than it may.
    #[error("the embedding service did not answer in time")]
    TimedOut,
    /// The service has too much to do, or wants to be left alone for longer than the call may take.
    #[error("the embedding service is busy (asks to wait {retry_after:?}): {message}")]
    Busy {
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
        /// Its own words, shortened.
        message: String,
    },
    /// The service is not able to work now. `code` and `message` are its own, empty if it gave none.
    #[error("the embedding service fails with {status} {code}: {message}")]
    Failing {
        /// Of HTTP.
        status: u16,
        /// Its own code.
        code: String,
        /// Its own words, shortened.
        message: String,
    },
    /// The service does not want this request, and would not want it later: a deployment that does not exist, a text
    /// that is too long or does not pass the content filter. `code` and `message` as in `Failing`.
    #[error("the embedding service refuses the request with {status} {code}: {message}")]
    Refused {
        /// Of HTTP.
        status: u16,
        /// Its own code.
        code: String,
        /// Its own words, shortened.
        message: String,
    },
    /// Calls failed too often, so that the service was not asked. One may try after this time.
    #[error("the embedding service is left alone for {retry_after:?}")]
    CircuitOpen {
        /// How much longer.
        retry_after: Duration,
    },
    /// The local model.
    #[error("the local model does not work")]
    Local(#[source] Box<dyn StdError + Send + Sync>),
    /// The service gave an answer of another shape than asked for.
    #[error("the embedding service answered in an unexpected shape: {0}")]
    Shape(&'static str),
}

/// Something that turns text into vectors.
pub trait Embedder: Send + Sync {
    /// Whose vectors they are.
    fn model(&self) -> &EmbeddingModel;

    /// Who gives them, as the semantic conventions for generative AI name providers.
    fn provider(&self) -> &'static str;

    /// Most texts for one `embed`.
    fn batch(&self) -> usize;

    /// Embeds up to [`Embedder::batch`] texts.
    fn embed<'a>(&'a self, texts: &'a [String]) -> BoxFuture<'a, Result<Embedded, EmbeddingError>>;
}
