//! One connection that says nothing: given up soon where its peer has vanished, and never where it is only slow.

use std::time::{Duration, Instant};

use rowgate::db::Db;
use rowgate::domain::RowLimit;
use serde_json::Value;
use tokio::time::sleep;
use tokio_postgres::Config;

use super::proxy::{FaultyProxy, Line};
use crate::support::{SEATTLE, TestDatabase, caller, cluster};

/// One that would wait for a minute if it knew no better.
async fn patient(database: &TestDatabase) -> (Db, FaultyProxy) {
    let proxy = FaultyProxy::to(cluster().cluster.port()).await;
    let mut app = Config::new();
    app.host("127.0.0.1").port(proxy.port).user("rowgate_app").dbname(&database.name);
    app.password(database.app().get_password().unwrap());
    (database.open_with(&[("ROWGATE_POOL_WAIT_SECONDS", "60")], app), proxy)
}

/// Which of the server's processes answers.
async fn answers(db: &Db) -> Value {
    let answer = db.query(&caller(SEATTLE), "select pg_backend_pid()", RowLimit::DEFAULT).await.unwrap();
    answer.rows.values()[0][0].clone()
}

#[tokio::test]
async fn a_peer_that_vanished_is_not_waited_for() {
    let database = TestDatabase::create().await;
    let (db, proxy) = patient(&database).await;
    let before = answers(&db).await;
    proxy.vanish();
    let began = Instant::now();
    assert_ne!(answers(&db).await, before);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_server_that_is_slow_keeps_its_connections() {
    let database = TestDatabase::create().await;
    let (db, proxy) = patient(&database).await;
    let before = answers(&db).await;
    for _ in 0..2 {
        proxy.set(Line::Silent);
        let (after, ()) = tokio::join!(answers(&db), async {
            sleep(Duration::from_millis(1_500)).await;
            proxy.set(Line::Through);
        });
        assert_eq!(after, before);
    }
}

#[tokio::test]
async fn a_statement_that_works_for_long_is_not_silent() {
    let database = TestDatabase::create().await;
    let (db, _proxy) = patient(&database).await;
    let before = answers(&db).await;
    let slow = "select count(*) from generate_series(1, 8000000)";
    db.query(&caller(SEATTLE), slow, RowLimit::DEFAULT).await.unwrap();
    assert_eq!(answers(&db).await, before);
}
