//! The ground floor: ids, limits, the profile and parsed requests. Values that prove a check was done.
//! Does no I/O, reads no environment and knows no other room.

mod ids;
mod limits;
mod profile;
mod search;

pub use ids::{IdError, KeyId, Principal, TokenId};
pub use limits::{ByteLimit, LimitError, RowLimit};
pub use profile::{Profile, ProfileError, PromptProfile, ToolProfile, ValueHint};
pub use search::{
    FilterType, FilterValue, Fit, SearchColumn, SearchFilter, SearchModel, SearchSource, SearchText, SearchTextError,
};
