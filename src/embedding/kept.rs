//! Vectors of what was searched for lately, so that the same words cost nothing the second time. Bounded; the same for
//! every caller, because a vector says nothing but what its words say.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use super::{Embedder, EmbeddingError};

/// How many are kept: about 1.5 MB of 384 numbers each.
const KEPT: NonZeroUsize = NonZeroUsize::new(1_000).unwrap();

/// An embedder that remembers.
pub struct KeptVectors {
    embedder: Arc<dyn Embedder>,
    kept: Mutex<LruCache<String, Arc<[f32]>>>,
}

impl KeptVectors {
    /// Remembers what this embedder answers.
    pub fn of(embedder: Arc<dyn Embedder>) -> Self {
        Self { embedder, kept: Mutex::new(LruCache::new(KEPT)) }
    }

    /// The embedder.
    pub fn embedder(&self) -> &dyn Embedder {
        &*self.embedder
    }

    /// The vector of a text, whose case and spaces do not matter.
    pub async fn vector(&self, text: &str) -> Result<Arc<[f32]>, EmbeddingError> {
        let key = text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        if let Some(vector) = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Arc::clone(vector));
        }
        let embedded = self.embedder.embed(std::slice::from_ref(&key)).await?;
        let vector = embedded.vectors.into_iter().next().ok_or(EmbeddingError::Shape("no vector for a text"))?;
        let vector: Arc<[f32]> = vector.into();
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).put(key, Arc::clone(&vector));
        Ok(vector)
    }
}
