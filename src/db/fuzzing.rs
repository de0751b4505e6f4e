//! What the fuzz targets in `fuzz/` and `benches/parts.rs` reach of this room, under the feature `fuzzing` alone. No part of the program.

use serde_json::Value;

use super::rows::Rows;
use super::value::Encoding;

/// Writes the JSON of PostgreSQL's text of a value. `of` chooses the type of the value, and whether it is an array.
pub fn write(of: u8, text: &str, json: &mut String) {
    let kinds =
        [Encoding::Boolean, Encoding::Integer, Encoding::Float, Encoding::Numeric, Encoding::Json, Encoding::Text];
    let kind = kinds.into_iter().nth(usize::from(of >> 1) % 6).unwrap_or(Encoding::Text);
    let encoding = if of & 1 == 1 { Encoding::Array(Box::new(kind)) } else { kind };
    encoding.write(text, json);
}

/// Rows of an answer.
pub fn rows(values: &[Vec<Value>]) -> Rows {
    Rows::from(values)
}
