//! What the fuzz targets in `fuzz/` and `benches/parts.rs` reach of this room, under the feature `fuzzing` alone. No part of the program.

use serde_json::Value;

use super::value::{Encoding, json_bytes};

/// The JSON of PostgreSQL's text of a value, and how many bytes are counted for it. `of` chooses the type of the value,
/// and whether it is an array.
pub fn encode(of: u8, text: &str) -> (Value, usize) {
    let kinds =
        [Encoding::Boolean, Encoding::Integer, Encoding::Float, Encoding::Numeric, Encoding::Json, Encoding::Text];
    let kind = kinds.into_iter().nth(usize::from(of >> 1) % 6).unwrap_or(Encoding::Text);
    let encoding = if of & 1 == 1 { Encoding::Array(Box::new(kind)) } else { kind };
    let value = encoding.encode(text);
    let bytes = json_bytes(&value);
    (value, bytes)
}
