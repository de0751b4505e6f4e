//! Many calls of all stores: nobody sees a foreign row, and neither memory nor connections grow with the calls.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rowgate::db::admin::Admin;

use super::cluster::{embed, embedding};
use super::handler::Handler;
use super::load::{Load, Truth};
use crate::support::azure::LoopbackAzure;
use crate::support::{TestDatabase, cluster};

/// Calls in the short form, and how many clients make them.
const SHORT: (usize, usize) = (2_000, 8);
const LONG_CLIENTS: usize = 32;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_leave_nothing_behind() {
    let wanted = std::env::var("ROWGATE_TEST_SOAK").ok().map(|text| text.parse().unwrap());
    let (calls, clients) = wanted.map_or(SHORT, |calls| (calls, LONG_CLIENTS));
    let azure = LoopbackAzure::start().await;
    let database = TestDatabase::create().await;
    let mut superuser = database.superuser().await;
    embed(&mut superuser, &azure).await;
    let truth = Arc::new(Truth::read(&superuser).await);
    let mut environment = embedding(&azure);
    environment.push(("ROWGATE_DATABASE_URL".to_owned(), database.url()));
    environment.push(("ROWGATE_CLAIM_KEYS".to_owned(), cluster().key_text.clone()));
    let handler = Handler::start(environment).await;

    println!("\n| calls | seconds | resident MiB | database connections |\n|---|---|---|---|");
    let started = Instant::now();
    let mib = |kib: u64| kib as f64 / 1024.0;
    let show = async |made: usize| {
        let resident = mib(handler.memory().resident);
        let connections = connections(&superuser, &database.name).await;
        println!("| {made} | {:.0} | {resident:.1} | {connections} |", started.elapsed().as_secs_f64());
        connections
    };
    show(0).await;
    let mut load = Load::start(&handler.url(), truth, clients, calls);
    let mut most = 0;
    for tenth in 1..10 {
        while load.made.load(Ordering::SeqCst) < calls * tenth / 10 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        most = most.max(show(calls * tenth / 10).await);
    }
    let count = load.all_made().await.take();
    let taken = started.elapsed();
    most = most.max(show(calls).await);
    println!(
        "\n{} right, {} by words, {} clear errors ({}), {} wrong; longest answer {} ms; {:.0} calls a second; peak {:.1} MiB",
        count.right,
        count.by_words,
        count.failed(),
        count.kinds(),
        count.wrong.len(),
        count.longest.as_millis(),
        calls as f64 / taken.as_secs_f64(),
        mib(handler.memory().peak),
    );
    assert!(count.wrong.is_empty() && count.no_handler == 0, "{:#?}\n{}", count.wrong, handler.complaints());
    assert_eq!(count.right + count.by_words + count.failed(), calls);
    // Four in the pool; one that is being closed may still be there beside the one that takes its place.
    assert!(most <= 8, "{most} connections");
}

async fn connections(superuser: &Admin, database: &str) -> i64 {
    let sql = "select count(*) from pg_stat_activity where usename = 'rowgate_app' and datname = $1";
    superuser.query_one(sql, &[&database]).await.unwrap().get(0)
}
