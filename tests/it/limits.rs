//! Answers are bounded in rows, bytes and time, and what goes over a bound ends on the server too.

use std::time::{Duration, Instant};

use rowgate::db::admin::Admin;
use rowgate::db::{DbError, Statement, Truncation};
use rowgate::domain::RowLimit;
use serde_json::json;

use crate::support::{HEAD_OFFICE, SEATTLE, TestDatabase, TestServer, caller, cluster};

#[tokio::test]
async fn rows_are_bounded_and_said_to_be() {
    let server = TestServer::start().await;
    let ask = async |sql: &str, most: Option<i64>| {
        let mut arguments = json!({ "postgresql_query": sql });
        if let Some(most) = most {
            arguments["max_rows"] = json!(most);
        }
        server.call(Some(SEATTLE), "execute_sales_query", arguments).await.ok()
    };
    for (there, most, rows) in [
        (100, None, 100),
        (101, None, 100),
        (3, Some(3), 3),
        (4, Some(3), 3),
        (1000, Some(1000), 1000),
        (1001, Some(1000), 1000),
    ] {
        let answer = ask(&format!("select n from generate_series(1, {there}) n"), most).await;
        assert_eq!(answer["row_count"], json!(rows));
        assert_eq!(answer["rows"].as_array().unwrap().len(), rows);
        assert_eq!(answer["truncated"], json!(there > rows), "{there} of {most:?}");
        assert_eq!(answer["note"].as_str().is_some_and(|note| note.contains("aggregate")), there > rows);
    }
    // A limit of the statement's own below ours is no truncation.
    assert_eq!(ask("select 1 from generate_series(1, 500) limit 100", None).await["truncated"], json!(false));
}

#[tokio::test]
async fn bytes_are_bounded_and_a_value_too_large_is_said_to_be() {
    let database = TestDatabase::create().await;
    let db = database.open();
    let seattle = caller(SEATTLE);
    let limit = RowLimit::parse(1000).unwrap();
    let answer = db.query(&seattle, "select repeat('x', 1000) from generate_series(1, 1000)", limit).await.unwrap();
    assert_eq!(answer.truncated, Some(Truncation::Bytes));
    assert!((250..=262).contains(&answer.rows.len()), "{}", answer.rows.len());

    for sql in [
        "select repeat('x', 300000)",
        "select repeat('x', 50000000)",
        "select repeat('x', 100000000), repeat('y', 100000000)",
        "select repeat(E'\\n', 200000)",
    ] {
        let answer = db.query(&seattle, sql, limit).await.unwrap();
        assert_eq!((answer.truncated, answer.rows.len()), (Some(Truncation::Bytes), 0), "{sql}");
        assert!(!answer.columns.is_empty());
    }
    // What fits before it is kept.
    let answer = db
        .query(
            &seattle,
            "select repeat('x', case when n < 4 then 10 else 90000000 end) from generate_series(1, 5) n",
            limit,
        )
        .await
        .unwrap();
    assert_eq!((answer.truncated, answer.rows.len()), (Some(Truncation::Bytes), 3));
    assert!(db.query(&seattle, "select 1", limit).await.is_ok());
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_stopped() {
    let server = TestServer::start_with(&[("ROWGATE_STATEMENT_SECONDS", "1")]).await;
    let told = server.sql(SEATTLE, "select count(*) from generate_series(1, 2000000000)").await.error();
    assert!(told.contains("ran for too long"), "{told}");
    server.sql(SEATTLE, "select 1").await.ok();
}

#[tokio::test]
async fn a_call_has_a_deadline_of_its_own() {
    let server = TestServer::start_with(&[("ROWGATE_STATEMENT_SECONDS", "200"), ("ROWGATE_CALL_SECONDS", "1")]).await;
    let told = server.sql(SEATTLE, "select count(*) from generate_series(1, 2000000000)").await.error();
    assert!(told.contains("stopped after 1 seconds"), "{told}");
    nothing_runs(&server.database).await;
}

/// Waits until no statement of the request path's runs in the database.
async fn nothing_runs(database: &TestDatabase) {
    let superuser = Admin::connect(&cluster().cluster.superuser("postgres")).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let running: i64 = superuser
            .query_one("select count(*) from pg_stat_activity where datname = $1 and usename = 'rowgate_app' and state <> 'idle'", &[&database.name])
            .await
            .unwrap()
            .get(0);
        if running == 0 {
            return;
        }
        assert!(Instant::now() < deadline, "{running} statements still run");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_query_with_it() {
    let server = TestServer::start_with(&[("ROWGATE_STATEMENT_SECONDS", "200")]).await;
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "execute_sales_query", "arguments": { "postgresql_query": "select count(*) from generate_series(1, 2000000000)" } } });
    let request = server.post(Some(SEATTLE)).body(body.to_string()).timeout(Duration::from_millis(700)).send();
    assert!(request.await.is_err_and(|error| error.is_timeout()));
    nothing_runs(&server.database).await;
    server.sql(SEATTLE, "select 1").await.ok();
}

#[tokio::test]
async fn a_call_that_is_dropped_does_not_leave_its_connection_to_the_next() {
    let database = TestDatabase::create().await;
    let db = database.open_with(&[("ROWGATE_POOL_SIZE", "1")], database.app());
    let sleep = Statement::unchecked("select pg_sleep(100)");
    let office = caller(HEAD_OFFICE);
    for _ in 0..3 {
        let dropped =
            tokio::time::timeout(Duration::from_millis(100), db.query_checked(&office, &sleep, RowLimit::DEFAULT))
                .await;
        assert!(dropped.is_err());
        let answer = db.query(&caller(SEATTLE), "select 'mine'", RowLimit::DEFAULT).await.unwrap();
        assert_eq!(answer.rows.values(), [[json!("mine")]]);
    }
    nothing_runs(&database).await;
}

#[tokio::test]
async fn a_pool_without_a_free_connection_is_busy_not_stuck() {
    let database = TestDatabase::create().await;
    let db = database.open_with(&[("ROWGATE_POOL_SIZE", "1"), ("ROWGATE_POOL_WAIT_SECONDS", "1")], database.app());
    let sleep = Statement::unchecked("select pg_sleep(3)");
    let (office, seattle) = (caller(HEAD_OFFICE), caller(SEATTLE));
    let (_, second) = tokio::join!(db.query_checked(&office, &sleep, RowLimit::DEFAULT), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        db.query(&seattle, "select 1", RowLimit::DEFAULT).await
    });
    assert!(matches!(second, Err(DbError::Busy)), "{second:?}");
}

#[tokio::test]
async fn connections_that_died_are_replaced_without_a_failed_call() {
    let database = TestDatabase::create().await;
    let db = database.open();
    let seattle = caller(SEATTLE);
    db.query(&seattle, "select 1", RowLimit::DEFAULT).await.unwrap();
    let superuser = database.superuser().await;
    let killed = superuser
        .query("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'rowgate_app' and datname = current_database()", &[])
        .await
        .unwrap();
    assert_eq!(killed.len(), 1);
    assert!(db.query(&seattle, "select 1", RowLimit::DEFAULT).await.is_ok());
}

#[tokio::test]
async fn large_aggregates_keep_their_parallel_plan() {
    let database = TestDatabase::create().await;
    let superuser = database.superuser().await;
    superuser
        .batch_execute(&format!(
            "alter database {} set parallel_setup_cost = 0; alter database {0} set parallel_tuple_cost = 0;
             alter database {0} set min_parallel_table_scan_size = 0; analyze retail.order_items;",
            database.name
        ))
        .await
        .unwrap();
    // Seen from outside, because EXPLAIN is no query: how many workers PostgreSQL has started for this database.
    let launched = "select coalesce(sum(parallel_workers_launched), 0)::int8 from pg_stat_database where datname = current_database()";
    let db = database.open();
    let answer = db
        .query(&caller(SEATTLE), "select count(*), sum(total_amount) from order_items", RowLimit::DEFAULT)
        .await
        .unwrap();
    assert!(answer.rows.values()[0][0].as_i64() > Some(100));
    drop(db);
    let version: i32 =
        superuser.query_one("select current_setting('server_version_num')::int", &[]).await.unwrap().get(0);
    if version < 180_000 {
        return; // No older server counts them.
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        superuser.batch_execute("select pg_stat_force_next_flush(), pg_stat_clear_snapshot()").await.unwrap();
        let workers: i64 = superuser.query_one(launched, &[]).await.unwrap().get(0);
        if workers > 0 {
            break;
        }
        assert!(Instant::now() < deadline, "no parallel worker was started");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_rollback_that_fails_spoils_nobody_elses_call() {
    let database = TestDatabase::create().await;
    let superuser = database.superuser().await;
    // Too little for the statement, and for what its rollback writes: as on a full disk, the transaction does not end.
    let set = |setting: &str| format!("alter role rowgate_app in database {} set {setting}", database.name);
    superuser.batch_execute(&set("temp_file_limit = 64")).await.unwrap();
    superuser.batch_execute(&set("work_mem = '64kB'")).await.unwrap();
    let db = database.open_with(&[("ROWGATE_POOL_SIZE", "1")], database.app());
    let (seattle, limit) = (caller(SEATTLE), RowLimit::parse(10).unwrap());
    let large = "select count(*) from (select repeat(md5(n::text), 20) m from generate_series(1, 20000) n order by m offset 0) r";
    for _ in 0..3 {
        let failed = db.query(&seattle, large, limit).await.unwrap_err();
        let DbError::Statement(mistake) = failed else { panic!("{failed:?}") };
        assert_eq!(mistake.sqlstate, "53400");
        db.describe(&seattle, &[], |_| Vec::new()).await.unwrap();
        assert_eq!(db.query(&seattle, "select 1", limit).await.unwrap().rows.values(), [[json!(1)]]);
    }
}
