//! What `benches/parts.rs` reaches of this room, under the feature `fuzzing` alone. No part of the program.

use crate::db::{Answer, Described};
use crate::domain::Profile;

/// The result of a query as it goes to a client.
pub fn result(answer: Answer) -> serde_json::Result<Vec<u8>> {
    super::tools::query_result(answer)
}

/// The schema of all tables, as a model reads it.
pub fn schemas(described: &Described, profile: &Profile) -> String {
    let tables: Vec<_> = described.catalog.tables().iter().collect();
    super::schema_text::write(&tables, &described.values, profile)
}
