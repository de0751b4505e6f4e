//! How much an answer may hold.

/// How many rows an answer holds at most: 1 to 1,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowLimit(u32);

/// How many bytes of result an answer holds at most, 1 KiB to 8 MiB: the JSON of its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteLimit(usize);

/// Why a number is no limit.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LimitError {
    /// Not a row limit.
    #[error("max_rows is {0}: ask for 1 to 1000 rows")]
    Rows(i64),
    /// Not a byte limit.
    #[error("a result has 1024 to 8388608 bytes at most, not {0}")]
    Bytes(u64),
}

impl RowLimit {
    /// What an answer holds unless the caller asks otherwise.
    pub const DEFAULT: Self = Self(100);

    /// Checks a number of rows that a caller asks for.
    pub fn parse(rows: i64) -> Result<Self, LimitError> {
        match u32::try_from(rows) {
            Ok(rows @ 1..=1_000) => Ok(Self(rows)),
            _ => Err(LimitError::Rows(rows)),
        }
    }

    /// The number of rows.
    pub fn rows(self) -> usize {
        self.0 as usize
    }
}

impl ByteLimit {
    /// 256 KiB.
    pub const DEFAULT: Self = Self(256 * 1024);

    /// Checks a number of bytes that a setting asks for.
    pub fn parse(bytes: u64) -> Result<Self, LimitError> {
        match usize::try_from(bytes) {
            Ok(n @ 1_024..=8_388_608) => Ok(Self(n)),
            _ => Err(LimitError::Bytes(bytes)),
        }
    }

    /// The number of bytes.
    pub fn bytes(self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_ends() {
        assert_eq!(RowLimit::parse(0), Err(LimitError::Rows(0)));
        assert_eq!(RowLimit::parse(-1), Err(LimitError::Rows(-1)));
        assert_eq!(RowLimit::parse(1_001), Err(LimitError::Rows(1_001)));
        assert_eq!(RowLimit::parse(1_000).map(RowLimit::rows), Ok(1_000));
        assert_eq!(ByteLimit::parse(1_023), Err(LimitError::Bytes(1_023)));
        assert_eq!(ByteLimit::parse(262_144), Ok(ByteLimit::DEFAULT));
    }
}
