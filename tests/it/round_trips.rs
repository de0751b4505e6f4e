//! A call costs one round trip to the database on a warm connection; what needs no data costs none.

use serde_json::json;

use crate::support::{CountingProxy, HEAD_OFFICE, SEATTLE, TestDatabase, TestServer, cluster};

async fn through_proxy(settings: &[(&str, &str)]) -> (TestServer, CountingProxy) {
    let proxy = CountingProxy::to(cluster().cluster.port()).await;
    let database = TestDatabase::create().await;
    let mut settings = database.settings(settings);
    let mut app = tokio_postgres::Config::new();
    let known = database.app();
    app.host("127.0.0.1").port(proxy.port).user("rowgate_app").dbname(&database.name);
    app.password(known.get_password().unwrap());
    settings.database.app = Some(app);
    (TestServer::serve(database, settings).await, proxy)
}

#[tokio::test]
async fn a_call_is_one_round_trip() {
    let (server, proxy) = through_proxy(&[]).await;
    server.sql(SEATTLE, "select 1").await.ok();
    server.call(Some(SEATTLE), "get_multiple_table_schemas", json!({ "table_names": [] })).await.ok();
    assert_eq!(proxy.connections(), 1);
    proxy.round_trips();

    server.sql(SEATTLE, "select count(*) from orders").await.ok();
    assert_eq!(proxy.round_trips(), 1, "a query");
    server.sql(HEAD_OFFICE, "select * from products").await.ok();
    assert_eq!(proxy.round_trips(), 1, "a query of many rows");
    server.sql(SEATTLE, "select n, repeat('x', 500) from generate_series(1, 1000) n").await.ok();
    assert_eq!(proxy.round_trips(), 1, "a truncated query");
    server.sql(SEATTLE, "select 1 / 0").await.error();
    assert_eq!(proxy.round_trips(), 1, "a mistake");
    server.call(Some(SEATTLE), "get_multiple_table_schemas", json!({ "table_names": ["orders", "stores"] })).await.ok();
    assert_eq!(proxy.round_trips(), 1, "schemas, with their known values");
    server.sql(SEATTLE, "select pg_sleep(1)").await.error();
    assert_eq!(proxy.round_trips(), 0, "a statement that is refused before it is sent");
    assert_eq!(proxy.connections(), 0);
}

#[tokio::test]
async fn what_needs_no_data_does_not_touch_the_database() {
    let (server, proxy) = through_proxy(&[]).await;
    let hello = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } });
    for (method, params) in [
        ("initialize", hello),
        ("tools/list", json!({})),
        ("prompts/list", json!({})),
        ("resources/templates/list", json!({})),
        ("tools/call", json!({ "name": "get_current_utc_date", "arguments": {} })),
    ] {
        let answer = server.request(None, method, params).await;
        assert!(answer["result"].is_object(), "{method}: {answer}");
    }
    server.client.get(&server.url).send().await.unwrap();
    server.client.get(format!("{}/healthz", server.url)).send().await.unwrap();
    assert_eq!((proxy.connections(), proxy.round_trips()), (0, 0));
}

#[tokio::test]
async fn a_cut_answer_costs_its_connection_and_no_more() {
    let (server, proxy) = through_proxy(&[("ROWGATE_POOL_SIZE", "1")]).await;
    server.sql(SEATTLE, "select repeat('x', 50000000)").await.ok();
    server.sql(SEATTLE, "select 1").await.ok();
    // The first, the one that cancels its statement, and the one after it.
    assert_eq!(proxy.connections(), 3);
}
