//! The rows of an answer, which are JSON from the moment they arrive: each value's text becomes part of the text that a
//! client is sent, and is bounded by what it takes there.

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::DataRowBody;
use serde_json::Value;

use super::error::Fault;
use super::value::Encoding;

/// Rows as JSON: an array each, with one value for each column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// The arrays, with commas between them.
    json: String,
    count: usize,
}

impl Rows {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// One array for each row, with commas between them.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// The values, for who reads them here.
    pub fn values(&self) -> Vec<Vec<Value>> {
        serde_json::from_str(&format!("[{}]", self.json)).unwrap_or_default()
    }

    /// Takes a row, if it takes no more than `room` bytes; the bytes that it took.
    pub(super) fn push(
        &mut self,
        row: &DataRowBody,
        encodings: &[Encoding],
        room: usize,
    ) -> Result<Option<usize>, Fault> {
        // JSON is hardly ever shorter than PostgreSQL's text, so what is longer than the room is not written at all.
        if row.buffer().len().saturating_sub(4 * encodings.len()) > room {
            return Ok(None);
        }
        let from = self.json.len();
        if from > 0 {
            self.json.push(',');
        }
        self.json.push('[');
        let mut ranges = row.ranges();
        for (n, encoding) in encodings.iter().enumerate() {
            if n > 0 {
                self.json.push(',');
            }
            match ranges.next()?.flatten().and_then(|range| row.buffer().get(range)) {
                Some(text) => encoding.write(std::str::from_utf8(text).map_err(Fault::value)?, &mut self.json),
                None => self.json.push_str("null"),
            }
        }
        self.json.push(']');
        let took = self.json.len() - from;
        if took > room {
            self.json.truncate(from);
            return Ok(None);
        }
        self.count += 1;
        Ok(Some(took))
    }
}

impl From<&[Vec<Value>]> for Rows {
    fn from(rows: &[Vec<Value>]) -> Self {
        let arrays: Vec<_> = rows.iter().map(|row| Value::from(row.as_slice()).to_string()).collect();
        Self { json: arrays.join(","), count: rows.len() }
    }
}
