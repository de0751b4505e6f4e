//! What the tests stand on.

pub mod azure;
mod cluster;
pub mod collector;
pub mod functions_host;
mod pgbouncer;
mod process;
mod proxy;
pub mod raw;
mod server;

pub use cluster::{TestDatabase, cluster};
pub use pgbouncer::{Bouncing, PgBouncer};
pub use process::Process;
pub use proxy::CountingProxy;
pub use server::TestServer;

use axum::http::{HeaderMap, HeaderValue};
use futures_util::FutureExt;
use rowgate::identity::{Caller, DEVELOPMENT_HEADER, Verifier};

pub const HEAD_OFFICE: &str = "00000000-0000-0000-0000-000000000000";
pub const SEATTLE: &str = "f47ac10b-58cc-4372-a567-0e02b2c3d479";
pub const KIRKLAND: &str = "9c8b7a65-4321-fed0-9876-543210fedcba";
pub const NOBODY: &str = "11111111-2222-3333-4444-555555555555";

/// A caller, proved in the one way there is.
pub fn caller(principal: &str) -> Caller {
    let mut headers = HeaderMap::new();
    headers.insert(DEVELOPMENT_HEADER, HeaderValue::from_str(principal).unwrap());
    Verifier::trusted_header().verify(&headers).now_or_never().unwrap().unwrap()
}

/// The stores and their callers, ids from 1.
pub fn stores() -> Vec<(i32, String)> {
    let callers = rowgate::retail::callers().unwrap();
    (1..).zip(callers.into_iter().skip(1).map(|caller| caller.principal)).collect()
}
