//! Search by meaning: the embedder, the stored vectors, their index, and whether it finds what comparing every row finds.

use std::sync::Arc;

use super::{Check, Mark, chain};
use crate::app::{self, Azure};
use crate::config::{EmbedderChoice, Settings};
use crate::db::{Db, DbError, Recall, VectorIndex};
use crate::domain::{Profile, SearchModel, SearchSource};
use crate::embedding::{Embedder, EmbeddingModel};
use crate::identity::Caller;

/// Below which share of the nearest rows found something is wrong with an index (docs/search.md: it is 0.99).
const POOR_RECALL: f64 = 0.95;

pub(super) async fn checks(
    settings: &Settings,
    profile: &Profile,
    azure: &Azure,
    database: &Db,
    caller: Option<&Caller>,
) -> Vec<Check> {
    let name = "embeddings";
    if matches!(settings.embedding.embedder, None | Some(EmbedderChoice::None)) {
        return vec![Check::new(name, Mark::Skipped, "ROWGATE_EMBEDDER is not set")];
    }
    let embedder: Arc<dyn Embedder> = match app::embedder(settings, profile, azure) {
        Ok(Some(embedder)) => embedder,
        Ok(None) => return vec![Check::new(name, Mark::Skipped, "there is none")],
        Err(error) => {
            return vec![
                Check::new(name, Mark::Failed, chain(&error)).run("look at ROWGATE_EMBEDDER and what it needs"),
            ];
        }
    };
    let of = embedder.model();
    let mut checks = vec![embeddings(name, &*embedder).await];
    let Some(source) = &profile.search else {
        checks.push(Check::new("vectors", Mark::Skipped, "the profile says nothing of search"));
        return checks;
    };
    let Some(model) = source.models.iter().find(|model| model.name == of.name && model.dimensions == of.dimensions)
    else {
        let seen = format!("the profile knows no model {} of {} dimensions", of.name, of.dimensions);
        checks.push(Check::new("vectors", Mark::Failed, seen).run("add it to the profile's [[search.models]]"));
        return checks;
    };
    let stored = match caller {
        Some(caller) => stored(database, caller, source, of).await,
        None => unnamed("vectors"),
    };
    let found = stored.mark == Mark::Ok;
    checks.push(stored);
    let (index, name) = index(database, model).await;
    checks.push(index);
    checks.push(match (caller, name) {
        (None, _) => unnamed(RECALL),
        (Some(caller), Some(index)) if found => recall(database, caller, source, model, &index).await,
        (Some(_), _) => Check::new(RECALL, Mark::Skipped, "there is nothing to be found, or no index to find it by"),
    });
    checks
}

const RECALL: &str = "recall";

fn unnamed(name: &'static str) -> Check {
    Check::new(name, Mark::Skipped, "no caller was named").run("rowgate doctor --as <principal>")
}

/// Whether a text becomes a vector of as many numbers as the profile says.
async fn embeddings(name: &'static str, embedder: &dyn Embedder) -> Check {
    let model = embedder.model();
    match embedder.embed(&["a pipe".to_owned()]).await {
        Ok(embedded) => {
            let dimensions = embedded.vectors.first().map_or(0, Vec::len);
            let seen = format!("{}, {dimensions} dimensions", model.name);
            if dimensions == model.dimensions {
                Check::new(name, Mark::Ok, seen)
            } else {
                Check::new(name, Mark::Failed, seen)
                    .run("the profile's [[search.models]] has to say the same dimensions")
            }
        }
        Err(error) => Check::new(name, Mark::Failed, chain(&error))
            .run("look at the endpoint, the deployment and the role Cognitive Services OpenAI User"),
    }
}

/// How many vectors of the model the caller may read.
async fn stored(database: &Db, caller: &Caller, source: &SearchSource, model: &EmbeddingModel) -> Check {
    let name = "vectors";
    match database.search_models(caller, source).await {
        Ok(models) => match models.iter().find(|(known, _)| *known == model.name) {
            Some((_, rows)) => Check::new(name, Mark::Ok, format!("{rows} of {}", model.name)),
            None => Check::new(name, Mark::Failed, format!("none of {}", model.name)).run("rowgate embed"),
        },
        Err(error) => Check::new(name, Mark::Failed, chain(&error)).run(error.advice()),
    }
}

/// The model's index, and its name if it can be searched. Without one every row is compared, which is slow and right.
async fn index(database: &Db, model: &SearchModel) -> (Check, Option<String>) {
    let name = "vector index";
    let warned = |seen: String, run: String| Check::new(name, Mark::Warning, seen).run(run);
    match database.vector_index(model).await {
        Ok(VectorIndex::Valid(index)) => (Check::new(name, Mark::Ok, index.clone()), Some(index)),
        Ok(VectorIndex::Earlier(index)) => {
            let seen = format!("{index} is an earlier version's, which finds less");
            (warned(seen, "rowgate embed".to_owned()), Some(index))
        }
        Ok(VectorIndex::Invalid(index)) => {
            let seen = format!("{index} is not valid, so every row is compared");
            (warned(seen, format!("drop index {index}; then rowgate embed")), None)
        }
        Ok(VectorIndex::Missing) => {
            let seen = format!("none of {}, so every row is compared", model.name);
            (warned(seen, "rowgate embed".to_owned()), None)
        }
        Err(error) => (Check::new(name, Mark::Failed, chain(&error)).run(error.advice()), None),
    }
}

/// Which share of what comparing every row finds is found by the index, for this caller.
async fn recall(database: &Db, caller: &Caller, source: &SearchSource, model: &SearchModel, index: &str) -> Check {
    let skipped = |why: &str| Check::new(RECALL, Mark::Skipped, why);
    match database.recall(caller, source, model).await {
        Ok(Recall::Measured { share, sample }) => {
            let seen = format!("{share:.3} of the nearest rows of {sample} vectors");
            if share < POOR_RECALL {
                let again = format!("as the tables' owner: reindex index concurrently {index}");
                Check::new(RECALL, Mark::Warning, seen).run(again)
            } else {
                Check::new(RECALL, Mark::Ok, seen)
            }
        }
        Ok(Recall::TooMany(rows)) => skipped(&format!("more than {rows} vectors: not compared one by one here")),
        Ok(Recall::TooFew) => skipped("too few vectors to have neighbours"),
        Ok(Recall::Unused) => skipped("this pgvector can not go on with an index scan, so every row is compared"),
        Err(DbError::TimedOut) => skipped("comparing every row takes too long to be done here"),
        Err(error) => Check::new(RECALL, Mark::Failed, chain(&error)).run(error.advice()),
    }
}
