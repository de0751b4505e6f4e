//! A model that runs here: all-MiniLM-L6-v2, 384 dimensions, in pure Rust. Loaded on the first use, and run on threads
//! that may be busy, because it is work for the processor.

mod minilm;
mod wordpiece;

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::OnceCell;

use self::minilm::{DIMENSIONS, MiniLm};
use super::{Embedded, Embedder, EmbeddingError, EmbeddingModel};

/// The name that rows carry.
const NAME: &str = "all-minilm-l6-v2";

/// The local model, with the folder that `model.onnx` is in.
pub struct LocalModel {
    file: PathBuf,
    model: EmbeddingModel,
    loaded: OnceCell<Arc<MiniLm>>,
}

impl LocalModel {
    /// A model that is loaded from `file` when it is first used.
    pub fn new(file: PathBuf) -> Self {
        let model = EmbeddingModel { name: NAME.to_owned(), dimensions: DIMENSIONS };
        Self { file, model, loaded: OnceCell::new() }
    }

    async fn loaded(&self) -> Result<Arc<MiniLm>, EmbeddingError> {
        let load = || async {
            let file = self.file.clone();
            let loaded = tokio::task::spawn_blocking(move || MiniLm::load(&file)).await;
            let loaded = loaded.map_err(|error| EmbeddingError::Local(error.into()))?;
            loaded.map(Arc::new).map_err(|error| EmbeddingError::Local(error.into()))
        };
        self.loaded.get_or_try_init(load).await.cloned()
    }
}

impl Embedder for LocalModel {
    fn model(&self) -> &EmbeddingModel {
        &self.model
    }

    fn provider(&self) -> &'static str {
        "rowgate"
    }

    fn batch(&self) -> usize {
        32
    }

    fn embed<'a>(&'a self, texts: &'a [String]) -> BoxFuture<'a, Result<Embedded, EmbeddingError>> {
        async move {
            let model = self.loaded().await?;
            let texts = texts.to_vec();
            let embedded = tokio::task::spawn_blocking(move || model.embed(&texts)).await;
            let embedded = embedded.map_err(|error| EmbeddingError::Local(error.into()))?;
            let (vectors, tokens) = embedded.map_err(|error| EmbeddingError::Local(error.into()))?;
            Ok(Embedded { vectors, tokens })
        }
        .boxed()
    }
}
