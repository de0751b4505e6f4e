//! Azure on loopback, asked by Azure's own client libraries and by Rowgate's: that what later tests stand on is as they
//! take it to be.

mod functions_host;
mod handlers;
mod models_and_callers;
mod trust;
mod vault;

use std::time::{Duration, Instant};

/// Waits for a request that will not be answered.
pub(crate) async fn asked(count: impl Fn() -> usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while count() == 0 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// This same program again, as one test with an environment of its own.
pub(crate) fn again(test: &str) -> (std::path::PathBuf, [String; 3]) {
    let arguments = ["--exact", test, "--nocapture"].map(str::to_owned);
    (std::env::current_exe().unwrap(), arguments)
}
