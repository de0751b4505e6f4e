//! A mistake gets a sentence that says what, where and what to try.

use crate::support::{SEATTLE, TestServer};

#[tokio::test]
async fn mistakes_come_with_their_place_in_the_callers_own_text() {
    let server = TestServer::start().await;
    for (sql, expected) in [
        (
            "select store_nam from stores",
            "column \"store_nam\" does not exist (42703)\nline 1, column 8:\nselect store_nam from stores\n       ^\nHint: Perhaps you meant to reference the column \"stores.store_name\".",
        ),
        (
            "select\n\tcount(*)\nfrom ordrs",
            "relation \"ordrs\" does not exist (42P01)\nline 3, column 6:\nfrom ordrs\n     ^\nDid you mean retail.orders?",
        ),
        (
            "select 'é' || nam from stores",
            "column \"nam\" does not exist (42703)\nline 1, column 15:\nselect 'é' || nam from stores\n              ^\nDid you mean stores.store_name?",
        ),
        (
            "select count(* from stores",
            "syntax error at or near \"from\" (42601)\nline 1, column 16:\nselect count(* from stores\n               ^",
        ),
        ("select 1 +", "syntax error at the end of the statement (42601)\nline 1, column 11:\nselect 1 +\n          ^"),
        (
            "with x as (delete from orders returning *) select * from x",
            "Only queries can run here, and data can not be changed (0A000)\nline 1, column 6:",
        ),
        ("select 'open", "unterminated quoted string"),
        ("select 1 / 0", "division by zero (22012)"),
        (
            "select 'x'::int",
            "invalid input syntax for type integer: \"x\" (22P02)\nline 1, column 8:\nselect 'x'::int\n       ^",
        ),
        ("select no_such_function(1)", "function no_such_function(integer) does not exist (42883)"),
        ("select * from pg_authid", "permission denied for table pg_authid (42501)"),
        ("select * from rowgate.claim_keys", "permission denied for schema rowgate (42501)"),
        (
            "delete from orders",
            "Only queries can run here, and data can not be changed: start with SELECT, WITH, VALUES or TABLE, not delete.\nline 1, column 1:\ndelete from orders\n^",
        ),
        (
            "select 1; select 2",
            "Only one statement can run at a time: nothing may follow the semicolon.\nline 1, column 11:\nselect 1; select 2\n          ^",
        ),
        ("select pg_sleep(9)", "The function pg_sleep can not be used here"),
        ("", "The statement is empty."),
        ("-- only a comment", "The statement is empty."),
    ] {
        let told = server.sql(SEATTLE, sql).await.error();
        assert!(told.starts_with(expected), "{sql}:\n{told}\n---\n{expected}");
        assert!(!told.contains("rowgate_statement"), "{told}");
    }
}

#[tokio::test]
async fn arguments_that_do_not_fit_say_so() {
    let server = TestServer::start().await;
    for (tool, arguments, expected) in [
        ("execute_sales_query", serde_json::json!({}), "missing field `postgresql_query`"),
        ("execute_sales_query", serde_json::json!({ "postgresql_query": 1 }), "expected a string"),
        (
            "execute_sales_query",
            serde_json::json!({ "postgresql_query": "select 1", "max_rows": 0 }),
            "max_rows is 0: ask for 1 to 1000 rows",
        ),
        (
            "execute_sales_query",
            serde_json::json!({ "postgresql_query": "select 1", "max_rows": 1001 }),
            "max_rows is 1001",
        ),
        (
            "execute_sales_query",
            serde_json::json!({ "postgresql_query": "select 1", "limit": 1 }),
            "unknown field `limit`",
        ),
        ("get_multiple_table_schemas", serde_json::json!({ "table_names": "orders" }), "expected a sequence"),
        (
            "get_multiple_table_schemas",
            serde_json::json!({ "table_names": ["retail.order", "nothing"] }),
            "There is no table \"retail.order\", \"nothing\". The tables are: retail.categories, ",
        ),
        ("semantic_search_products", serde_json::json!({}), "query_description is missing"),
        (
            "semantic_search_products",
            serde_json::json!({ "query_description": 7 }),
            "query_description has to be a text",
        ),
        ("semantic_search_products", serde_json::json!({ "query_description": " ?! " }), "nothing to search for"),
        (
            "semantic_search_products",
            serde_json::json!({ "query_description": "x", "max_rows": 101 }),
            "ask for 1 to 100 rows",
        ),
        (
            "semantic_search_products",
            serde_json::json!({ "query_description": "x", "similarity_threshold": 101 }),
            "a percentage",
        ),
        (
            "semantic_search_products",
            serde_json::json!({ "query_description": "x", "colour": "red" }),
            "The filters are: category, min_price, max_price, in_stock_only",
        ),
        (
            "semantic_search_products",
            serde_json::json!({ "query_description": "x", "min_price": "1" }),
            "min_price has to be a number",
        ),
        (
            "find_similar_products",
            serde_json::json!({ "product": "PVC elbow" }),
            "Did you mean PVC Elbow 3/4 in (PL-FIT-01)",
        ),
    ] {
        let told = server.call(Some(SEATTLE), tool, arguments.clone()).await.error();
        assert!(told.contains(expected), "{tool} {arguments}: {told}");
    }
}

#[tokio::test]
async fn the_connection_is_as_good_after_a_mistake_as_before() {
    let server = TestServer::start_with(&[("ROWGATE_POOL_SIZE", "1")]).await;
    for sql in ["select nothing", "select 1/0", "select 1 +", "select * from (select 1", "select 1) r; select (1"] {
        server.sql(SEATTLE, sql).await.error();
        assert_eq!(server.sql(SEATTLE, "select 1 as one").await.ok()["rows"], serde_json::json!([[1]]));
    }
}
