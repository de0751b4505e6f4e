//! Rowgate: an MCP endpoint for PostgreSQL in which every caller sees only its own rows.
//!
//! The house, from the top. A room uses rooms on lower floors only; a test compares the `use` lines with this table.
//!
//! | floor | rooms |
//! |---|---|
//! | 6 | `main` (the command line), [`dev`] (a laptop's database), [`doctor`] (what is wrong, and what mends it) |
//! | 5 | [`app`] (builds everything once) |
//! | 4 | [`http`] (routes, layers, who is asking) |
//! | 3 | [`mcp`] (tools, resources, prompts), [`indexing`] (keeps vectors up to date), [`retail`] (the sample) |
//! | 2 | [`db`] (the caller's transaction, the catalog), [`embedding`] (text into vectors), [`secrets`] (who this program is, to Azure); none uses another |
//! | 1 | [`identity`] (callers and claims), [`config`] (the environment), [`telemetry`] (the log, spans and measures) |
//! | 0 | [`domain`] (ids, limits, the profile) |

pub mod app;
pub mod config;
pub mod db;
#[cfg(feature = "dev")]
pub mod dev;
pub mod doctor;
pub mod domain;
pub mod embedding;
pub mod http;
pub mod identity;
pub mod indexing;
pub mod mcp;
pub mod retail;
pub mod secrets;
pub mod telemetry;
