//! Schemas as a model reads them, and as resources.

use serde_json::json;

use crate::support::{HEAD_OFFICE, KIRKLAND, SEATTLE, TestServer};

async fn describe(server: &TestServer, caller: &str, tables: serde_json::Value) -> String {
    let answer = server.call(Some(caller), "get_multiple_table_schemas", json!({ "table_names": tables })).await.ok();
    answer["schemas"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_whole_schema_reads_like_ddl() {
    let server = TestServer::start().await;
    insta::assert_snapshot!("schemas", describe(&server, SEATTLE, json!([])).await);
}

#[tokio::test]
async fn tables_can_be_named_in_any_dress_and_come_once() {
    let server = TestServer::start().await;
    let one = describe(&server, SEATTLE, json!(["retail.stores"])).await;
    assert!(one.starts_with("retail.stores -- "), "{one}");
    assert_eq!(describe(&server, SEATTLE, json!(["stores", "RETAIL.Stores", "\"retail\".\"stores\""])).await, one);
}

#[tokio::test]
async fn values_are_those_that_the_caller_sees() {
    let server = TestServer::start().await;
    let superuser = server.database.superuser().await;
    superuser.execute("delete from retail.order_items where store_id = 7", &[]).await.unwrap();
    superuser.execute("delete from retail.orders where store_id = 7", &[]).await.unwrap();
    superuser
        .batch_execute("insert into retail.orders (order_id, customer_id, store_id, order_date) values (900001, 1, 7, '1999-01-01')")
        .await
        .unwrap();
    let years = "years of order_date: ";
    // One after the other, so that what was kept for one could show up for another.
    for _ in 0..2 {
        assert!(describe(&server, KIRKLAND, json!(["orders"])).await.contains(&format!("{years}1999\n")));
        assert!(describe(&server, SEATTLE, json!(["orders"])).await.contains(&format!("{years}2020 | ")));
        assert!(describe(&server, HEAD_OFFICE, json!(["orders"])).await.contains(&format!("{years}1999 | 2020 | ")));
    }
}

#[tokio::test]
async fn a_change_of_the_schema_shows_at_once() {
    let server = TestServer::start().await;
    assert!(!describe(&server, SEATTLE, json!(["stores"])).await.contains("opened_on"));
    let superuser = server.database.superuser().await;
    superuser
        .batch_execute(
            "alter table retail.stores add column opened_on date;
             comment on column retail.stores.opened_on is 'first day';
             create type retail.size as enum ('small', 'large'); alter table retail.stores add column size retail.size",
        )
        .await
        .unwrap();
    let text = describe(&server, SEATTLE, json!(["stores"])).await;
    assert!(text.contains("  opened_on date null -- first day\n"), "{text}");
    assert!(text.contains("  size size null -- one of: small | large\n"), "{text}");
    superuser.batch_execute("alter table retail.stores drop column opened_on").await.unwrap();
    assert!(!describe(&server, SEATTLE, json!(["stores"])).await.contains("opened_on"));
}

#[tokio::test]
async fn what_the_reader_may_not_read_or_what_is_not_protected_is_not_there() {
    let server = TestServer::start().await;
    // What is a hole by the next look at the database's posture is not shown until then either.
    server.sql(SEATTLE, "select 1").await.ok();
    let superuser = server.database.superuser().await;
    superuser
        .batch_execute(
            "create table retail.secret (a int); create table retail.open (a int); grant select on retail.open to rowgate_reader;
             create view retail.all_orders as select * from retail.orders; grant select on retail.all_orders to rowgate_reader;
             create view retail.my_orders with (security_invoker = true) as select * from retail.orders;
             grant select on retail.my_orders to rowgate_reader",
        )
        .await
        .unwrap();
    let told = server.call(Some(SEATTLE), "get_multiple_table_schemas", json!({ "table_names": ["x"] })).await.error();
    assert!(told.contains("retail.my_orders") && told.contains("retail.orders"), "{told}");
    for hidden in ["retail.secret", "retail.open", "retail.all_orders", "rowgate."] {
        assert!(!told.contains(hidden), "{told}");
    }
    assert!(describe(&server, SEATTLE, json!(["my_orders"])).await.starts_with("view retail.my_orders"));
}

#[tokio::test]
async fn resources_are_the_same_text() {
    let server = TestServer::start().await;
    let list = server.request(Some(SEATTLE), "resources/list", json!({})).await;
    let uris: Vec<_> =
        list["result"]["resources"].as_array().unwrap().iter().map(|r| r["uri"].as_str().unwrap().to_owned()).collect();
    assert_eq!(uris.len(), 9);
    assert!(uris.contains(&"schema://retail/orders".to_owned()));
    let read = server.request(Some(SEATTLE), "resources/read", json!({ "uri": "schema://retail/orders" })).await;
    assert_eq!(read["result"]["contents"][0]["text"], json!(describe(&server, SEATTLE, json!(["orders"])).await));
    for bad in ["schema://retail/nothing", "schema://retail", "file:///etc/passwd", "schema://rowgate/claim_keys"] {
        let told = server.request(Some(SEATTLE), "resources/read", json!({ "uri": bad })).await;
        assert!(told["error"]["message"].as_str().unwrap().contains("There is no resource"), "{told}");
    }
    for method in ["resources/list", "resources/read"] {
        let refused = server.request(None, method, json!({ "uri": "schema://retail/orders" })).await;
        assert!(refused["error"]["message"].as_str().unwrap().starts_with("No caller"), "{refused}");
    }
}

#[tokio::test]
async fn names_are_completed() {
    let server = TestServer::start().await;
    let complete = async |argument: &str, value: &str, context: serde_json::Value| {
        let params = json!({
            "ref": { "type": "ref/resource", "uri": "schema://{schema}/{table}" },
            "argument": { "name": argument, "value": value }, "context": context,
        });
        server.request(Some(SEATTLE), "completion/complete", params).await["result"]["completion"]["values"].clone()
    };
    assert_eq!(complete("schema", "re", json!({})).await, json!(["retail"]));
    assert_eq!(
        complete("table", "ord", json!({ "arguments": { "schema": "retail" } })).await,
        json!(["order_items", "orders"])
    );
    assert_eq!(complete("table", "ord", json!({ "arguments": { "schema": "other" } })).await, json!([]));
    assert_eq!(complete("table", "ord", json!({})).await, json!(["order_items", "orders"]));
}
