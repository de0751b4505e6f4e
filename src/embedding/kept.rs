//! Vectors of what was searched for lately, so that the same words cost nothing the second time. Bounded; the same for
//! every caller, because a vector says nothing but what its words say.

use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use lru::LruCache;

use super::{Embedded, Embedder, EmbeddingError};
use crate::telemetry::{Kind, Span, measure};

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

    /// Embeds one text, and tells of it (semantic conventions, generative AI).
    async fn embed(&self, text: &str) -> Result<Embedded, EmbeddingError> {
        let (began, model, provider) = (Instant::now(), &self.embedder.model().name, self.embedder.provider());
        let span = Span::begin(Kind::Client, format!("embeddings {model}"));
        if span.is_seen() {
            span.set("gen_ai.operation.name", "embeddings");
            span.set("gen_ai.provider.name", provider);
            span.set("gen_ai.request.model", model.clone());
        }
        let texts = [text.to_owned()];
        let embedded = span.around(pin!(self.embedder.embed(&texts))).await;
        let tokens = embedded.as_ref().ok().map(|embedded| embedded.tokens);
        match tokens {
            Some(tokens) => span.set("gen_ai.usage.input_tokens", i64::try_from(tokens).unwrap_or(i64::MAX)),
            None => span.fail("unavailable"),
        }
        measure::embedded(provider, model, tokens, began.elapsed());
        embedded
    }

    /// The vector of a text, whose case and spaces do not matter.
    pub async fn vector(&self, text: &str) -> Result<Arc<[f32]>, EmbeddingError> {
        let key = text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        let known = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&key).map(Arc::clone);
        measure::looked_up("vectors", known.is_some());
        if let Some(vector) = known {
            return Ok(vector);
        }
        let embedded = self.embed(&key).await?;
        let vector = embedded.vectors.into_iter().next().ok_or(EmbeddingError::Shape("no vector for a text"))?;
        let vector: Arc<[f32]> = vector.into();
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).put(key, Arc::clone(&vector));
        Ok(vector)
    }
}
