//! Keeps the stored vectors up to date: embeds the rows whose text has no vector yet or another one, batch by batch. A
//! batch that is stored stays, so the pipeline can be stopped and started again at any time.

use indicatif::ProgressBar;

use crate::db::admin::{Admin, AdminError};
use crate::db::vectors;
use crate::domain::{Profile, SearchModel, SearchSource};
use crate::embedding::{Embedder, EmbeddingError};

/// What a run did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Indexed {
    /// Rows that were embedded.
    pub embedded: usize,
    /// Rows that have a vector of the model now.
    pub total: i64,
    /// Tokens that the model read.
    pub tokens: u64,
}

/// Why not all rows are embedded. Those that were stay.
#[derive(Debug, thiserror::Error)]
pub enum IndexingError {
    /// The profile has no search source.
    #[error("the profile says nothing of search, so there is nothing to embed")]
    NoSearch,
    /// The profile does not know the model.
    #[error("the profile knows no model {0} of {1} dimensions: add it to [[search.models]]")]
    UnknownModel(String, usize),
    /// The database.
    #[error(transparent)]
    Database(#[from] AdminError),
    /// The model.
    #[error("the texts could not be embedded")]
    Embedding(#[from] EmbeddingError),
}

/// [`index`] with what the profile says of the embedder's model.
pub async fn index_for(
    admin: &mut Admin,
    profile: &Profile,
    embedder: &dyn Embedder,
    all: bool,
    progress: &ProgressBar,
) -> Result<Indexed, IndexingError> {
    let source = profile.search.as_ref().ok_or(IndexingError::NoSearch)?;
    let of = embedder.model();
    let model = source.models.iter().find(|model| model.name == of.name && model.dimensions == of.dimensions);
    let model = model.ok_or_else(|| IndexingError::UnknownModel(of.name.clone(), of.dimensions))?;
    index(admin, source, model, embedder, all, progress).await
}

/// Embeds what is missing, or everything if `all`, and makes the model's index. `progress` counts rows.
async fn index(
    admin: &mut Admin,
    source: &SearchSource,
    model: &SearchModel,
    embedder: &dyn Embedder,
    all: bool,
    progress: &ProgressBar,
) -> Result<Indexed, IndexingError> {
    let pending = vectors::pending(admin, source, model, all).await?;
    progress.set_length(pending.len() as u64);
    let mut tokens = 0;
    for batch in pending.chunks(embedder.batch().max(1)) {
        let texts: Vec<String> = batch.iter().map(|document| document.text.clone()).collect();
        let embedded = embedder.embed(&texts).await?;
        tokens += embedded.tokens;
        vectors::store(admin, source, model, batch, embedded.vectors).await?;
        progress.inc(batch.len() as u64);
    }
    vectors::index(admin, source, model).await?;
    Ok(Indexed { embedded: pending.len(), total: vectors::count(admin, source, model).await?, tokens })
}
