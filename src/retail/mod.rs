//! Zava Retail, the sample data set: its catalogue and people as data, a generator for the rest, and a loader.
//! Nothing outside of this room, but the command line, names a store, a sale or a product.

mod catalogue;
mod generator;
mod loader;
mod vscode;

pub use catalogue::{Caller, Catalogue, SampleError, callers};
pub use generator::{Customer, Dataset, Item, Order, Product, Scale, Stock};
pub use loader::{SeedError, Seeded, seed};
pub use vscode::{McpConfigError, mcp_config};

/// The profile that the program ships.
pub const PROFILE: &str = include_str!("profile.toml");
