//! At the most talkative, with everything turned on that an operator can turn on, nothing secret and nothing of anybody's
//! rows is written, logged or exported.

use serde_json::json;

use crate::support::azure::{CLIENT_ID, KEY_VAULT, LoopbackAzure, VAULT_HOST};
use crate::support::collector::Collector;
use crate::support::{Process, SEATTLE, TestDatabase, cluster};

/// A value that stands in a row of the caller's own.
const ROW: &str = "OBSIDIAN-4410-ROW";
/// A value that stands in a statement.
const BOUND: &str = "GRANITE-8812-STATEMENT";
/// What somebody looks for.
const SOUGHT: &str = "a marble hammer 3391";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_secret_is_told_at_any_level() {
    let (database, collector, azure) =
        (TestDatabase::create().await, Collector::start().await, LoopbackAzure::start().await);
    let rename = format!("update retail.customers set first_name = '{ROW}' where primary_store_id = 1");
    database.superuser().await.batch_execute(&rename).await.unwrap();
    azure.key_vault.set("rowgate-claim-keys", &cluster().key_text);
    let mut environment = azure.environment();
    let openai = azure.plain_openai();
    let vault = format!("https://{VAULT_HOST}");
    environment.extend(
        [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url().as_str()),
            ("ROWGATE_LOG", "trace"),
            ("ROWGATE_CLAIM_KEYS", ""),
            ("ROWGATE_KEY_VAULT", &vault),
            ("ROWGATE_MANAGED_IDENTITY_CLIENT_ID", CLIENT_ID),
            ("ROWGATE_EMBEDDER", "azure-openai"),
            ("ROWGATE_OPENAI_ENDPOINT", &openai),
            ("ROWGATE_OPENAI_KEY", &azure.openai.key),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    let environment: Vec<(&str, &str)> = environment.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let process = Process::serve(&database, &environment);
    let answer = process
        .sql(SEATTLE, &format!("select first_name, '{BOUND}' from customers where primary_store_id = 1 limit 3"))
        .await;
    assert!(answer.to_string().contains(ROW) && answer.to_string().contains(BOUND), "{answer}");
    for sql in [
        format!("select first_name::int, '{BOUND}' from customers where primary_store_id = 1 limit 1"),
        format!("select '{BOUND}'; select 2"),
        format!("select set_config('{BOUND}', 'x', true)"),
        format!("select '{BOUND}' from no_such_table"),
    ] {
        assert_eq!(process.sql(SEATTLE, &sql).await["isError"], json!(true), "{sql}");
    }
    process.call(SEATTLE, "semantic_search_products", json!({ "query_description": SOUGHT })).await;
    process.call(SEATTLE, "get_multiple_table_schemas", json!({ "table_names": [BOUND] })).await;
    let written = process.end().await;
    let exported = collector.raw();
    assert!(written.contains("TRACE") || written.contains("DEBUG"), "{written}");
    assert!(exported.contains("execute_sales_query") && exported.contains("rowgate.calls"));

    let mut secrets = vec![cluster().app_password.clone(), azure.openai.key.clone(), azure.identity.header.clone()];
    secrets.extend(cluster().key_text.split(':').nth(1).map(str::to_owned));
    secrets.extend(azure.identity.issued(KEY_VAULT));
    secrets.extend([ROW, BOUND, SOUGHT, "marble"].map(str::to_owned));
    for secret in secrets {
        for (where_to, text) in [("standard output", &written), ("the collector", &exported)] {
            let line = text.lines().find(|line| line.contains(&secret));
            assert!(line.is_none(), "{secret} is on {where_to}: {line:?}");
        }
    }
    // Exporters are told who asked in records only; nobody is named in a span or a measure.
    assert!(collector.spans().iter().all(|span| span.attributes.values().all(|value| value != SEATTLE)));
}
