//! What a model has to read costs its owner money: bytes and tokens (o200k_base) of what is read on every conversation
//! have bounds, a little above what they are. Deterministic, unlike time: `scripts/bench` measures that.

use serde_json::{Value, json};

use crate::support::{SEATTLE, TestServer};

/// Twenty rows of seven columns, of the kinds that answers have: ids, dates, names, counts, amounts.
const TWENTY_ROWS: &str =
    "select n as sale_id, date '2024-03-01' + n as sold_on, 'Cordless Drill Driver 20V ' || n as product,
       1 + n % 5 as quantity, round(89.95 + n, 2) as unit_price, round(n % 4 * 1.25, 2) as discount,
       round((89.95 + n) * (1 + n % 5), 2) as total
  from generate_series(1, 20) n";

fn tokens(text: &str) -> usize {
    tiktoken_rs::o200k_base_singleton().encode_ordinary(text).len()
}

/// Fails with what to do about it.
fn within(what: &str, figure: usize, bound: usize) {
    println!("{what}: {figure}, bound {bound}");
    assert!(
        figure <= bound,
        "{what}: {figure}, more than the {bound} that it may be. Every model reads this in every conversation: say it \
         in fewer words. If it has to be that long, raise the bound in tests/it/budgets.rs and say why in the commit, \
         and bring docs/speed.md up to date."
    );
}

#[tokio::test]
async fn the_list_of_tools_stays_short() {
    let server = TestServer::start().await;
    let answer = server.request(None, "tools/list", json!({})).await;
    within("tools/list, bytes of the answer", answer.to_string().len(), 8_400);
    let mut tools = answer["result"]["tools"].clone();
    // Icons are shown to people, and no model reads them.
    tools.as_array_mut().unwrap().iter_mut().for_each(|tool| drop(tool.as_object_mut().unwrap().remove("icons")));
    within("tools/list without icons, tokens", tokens(&tools.to_string()), 1_530);
}

#[tokio::test]
async fn the_schema_of_all_tables_stays_short() {
    let server = TestServer::start().await;
    let answer = server.call(Some(SEATTLE), "get_multiple_table_schemas", json!({ "table_names": [] })).await.ok();
    within("schema of eight tables, tokens", tokens(answer["schemas"].as_str().unwrap()), 1_200);
}

#[tokio::test]
async fn an_answer_is_shorter_than_its_rows_as_plain_json() {
    let server = TestServer::start().await;
    let reply = server.sql(SEATTLE, TWENTY_ROWS).await;
    let text = reply.text.clone();
    let answer = reply.ok();
    let names: Vec<&str> = answer["columns"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    let object = |row: &Value| {
        let values = row.as_array().unwrap().iter().cloned();
        Value::Object(names.iter().map(|name| (*name).to_owned()).zip(values).collect())
    };
    let plain = Value::Array(answer["rows"].as_array().unwrap().iter().map(object).collect()).to_string();
    println!("plain JSON rows: {} bytes, {} tokens", plain.len(), tokens(&plain));
    assert_eq!(answer["row_count"], 20);
    within("20 rows of 7 columns, bytes", text.len(), plain.len() * 65 / 100);
    within("20 rows of 7 columns, tokens", tokens(&text), tokens(&plain) * 75 / 100);
}
