//! Each caller sees its own rows, all of them and no other: compared, table by table, with what SQL as a superuser says.

use rowgate::domain::RowLimit;
use serde_json::json;

use crate::support::{HEAD_OFFICE, NOBODY, SEATTLE, TestDatabase, TestServer, caller, stores};

/// Each table, its key, and the condition on a row that store $1 may see it.
const OWN: &[(&str, &str, &str)] = &[
    ("stores", "store_id", "true"),
    ("categories", "category_id", "true"),
    ("product_types", "type_id", "true"),
    ("products", "product_id", "true"),
    ("inventory", "store_id * 10000 + product_id", "store_id = $1"),
    ("orders", "order_id", "store_id = $1"),
    ("order_items", "order_item_id", "store_id = $1"),
    (
        "customers",
        "customer_id",
        "primary_store_id = $1 or customer_id in (select customer_id from retail.orders where store_id = $1)",
    ),
    ("product_description_embeddings", "product_id", "true"),
];

/// Count and fingerprint of the keys of the rows.
fn fingerprint(table: &str, key: &str, condition: &str) -> String {
    format!(
        "select concat(count(*), ' ', md5(string_agg(({key})::text, ',' order by {key})))
           from retail.{table} where {condition}"
    )
}

#[tokio::test]
async fn every_store_sees_exactly_its_own_rows_of_every_table() {
    let database = TestDatabase::create().await;
    let db = database.open();
    let superuser = database.superuser().await;
    // A table that is not listed here would go untested.
    let tables = superuser
        .query("select relname::text from pg_class where relnamespace = 'retail'::regnamespace and relkind in ('r', 'p', 'v', 'm')", &[])
        .await
        .unwrap();
    let mut tables: Vec<String> = tables.iter().map(|row| row.get(0)).collect();
    let mut listed: Vec<String> = OWN.iter().map(|(table, ..)| (*table).to_owned()).collect();
    tables.sort();
    listed.sort();
    assert_eq!(tables, listed);

    let mut total = 0;
    for (store, principal) in stores() {
        let caller = caller(&principal);
        for (table, key, condition) in OWN {
            let truth = fingerprint(table, key, &condition.replace("$1", &store.to_string()));
            let truth: String = superuser.query_one(&truth, &[]).await.unwrap().get(0);
            let seen = db.query(&caller, &fingerprint(table, key, "true"), RowLimit::DEFAULT).await.unwrap();
            assert_eq!(seen.rows.values(), [[json!(truth)]], "{table} of store {store}");
            total += 1;
        }
    }
    assert_eq!(total, 8 * OWN.len());
}

#[tokio::test]
async fn stores_add_up_to_head_office_and_head_office_to_everything() {
    let database = TestDatabase::create().await;
    let db = database.open();
    let superuser = database.superuser().await;
    for table in ["orders", "order_items", "inventory"] {
        let count = format!("select count(*) from retail.{table}");
        let all: i64 = superuser.query_one(&count, &[]).await.unwrap().get(0);
        assert!(all > 1_000, "{table} has {all} rows");
        let mut sum = 0;
        for (_, principal) in stores() {
            let answer = db.query(&caller(&principal), &count, RowLimit::DEFAULT).await.unwrap();
            let own = answer.rows.values()[0][0].as_i64().unwrap();
            assert!(own > 0 && own < all);
            sum += own;
        }
        assert_eq!(sum, all, "{table}");
        let office = db.query(&caller(HEAD_OFFICE), &count, RowLimit::DEFAULT).await.unwrap();
        assert_eq!(office.rows.values(), [[json!(all)]], "{table}");
    }
}

#[tokio::test]
async fn a_customer_is_seen_by_the_primary_store_and_by_every_store_with_an_order() {
    let database = TestDatabase::create().await;
    let db = database.open();
    let superuser = database.superuser().await;
    let shared = superuser
        .query_one(
            "select c.customer_id, c.primary_store_id, array_agg(distinct o.store_id)
               from retail.customers c join retail.orders o using (customer_id)
              group by c.customer_id having count(distinct o.store_id) > 1 order by c.customer_id limit 1",
            &[],
        )
        .await
        .unwrap();
    let (customer, primary, mut seen_by): (i32, i32, Vec<i32>) = (shared.get(0), shared.get(1), shared.get(2));
    seen_by.push(primary);
    for (store, principal) in stores() {
        let sql = format!("select count(*) from customers where customer_id = {customer}");
        let answer = db.query(&caller(&principal), &sql, RowLimit::DEFAULT).await.unwrap();
        assert_eq!(answer.rows.values(), [[json!(i64::from(seen_by.contains(&store)))]], "store {store}");
    }
}

#[tokio::test]
async fn a_row_that_moves_to_another_store_moves_out_of_sight() {
    let database = TestDatabase::create().await;
    let db = database.open();
    let superuser = database.superuser().await;
    let seattle = caller(SEATTLE);
    let count = "select count(*) from inventory";
    let before = db.query(&seattle, count, RowLimit::DEFAULT).await.unwrap().rows.values()[0][0].as_i64().unwrap();
    superuser.execute("delete from retail.inventory where store_id = 2 and product_id = 1", &[]).await.unwrap();
    superuser
        .execute("update retail.inventory set store_id = 2 where store_id = 1 and product_id = 1", &[])
        .await
        .unwrap();
    let after = db.query(&seattle, count, RowLimit::DEFAULT).await.unwrap().rows.values()[0][0].as_i64().unwrap();
    assert_eq!(after, before - 1);
}

#[tokio::test]
async fn without_a_caller_there_is_a_sentence_and_no_data() {
    let server = TestServer::start().await;
    let sql = json!({ "postgresql_query": "select count(*) from orders" });
    for (principal, sentence) in [
        (None, "No caller: send the header x-rls-user-id"),
        (Some("not a caller!"), "holds no caller id"),
        (Some(""), "holds no caller id"),
        (Some(NOBODY), "Unknown caller"),
    ] {
        let told = server.call(principal, "execute_sales_query", sql.clone()).await.error();
        assert!(told.contains(sentence), "{principal:?}: {told}");
        let told = server.call(principal, "get_multiple_table_schemas", json!({ "table_names": [] })).await.error();
        assert!(told.contains(sentence), "{principal:?}: {told}");
    }
    // Even a statement that reads no table has to have a caller.
    let told = server.sql(NOBODY, "select 1").await.error();
    assert!(told.contains("Unknown caller"), "{told}");
}

#[tokio::test]
async fn a_principal_that_is_taken_away_is_out_at_once() {
    let server = TestServer::start().await;
    let superuser = server.database.superuser().await;
    server.sql(SEATTLE, "select count(*) from orders").await.ok();
    superuser.execute("delete from rowgate.principals where principal = $1", &[&SEATTLE]).await.unwrap();
    assert!(server.sql(SEATTLE, "select count(*) from orders").await.error().contains("Unknown caller"));
}
