//! What is counted: over OTLP and as Prometheus reads it, with the names that are documented and labels that are few.

use std::collections::BTreeSet;
use std::fs;

use rowgate::telemetry::names;
use serde_json::json;

use super::serve_with_search;
use crate::support::azure::LoopbackAzure;
use crate::support::collector::{CollectedMeasure, Collector};
use crate::support::{HEAD_OFFICE, NOBODY, Process, SEATTLE, TestDatabase};

fn find<'a>(measures: &'a [CollectedMeasure], name: &str, labels: &[(&str, &str)]) -> Option<&'a CollectedMeasure> {
    let fits = |measure: &&CollectedMeasure| {
        measure.name == name && labels.iter().all(|(key, value)| measure.labels.get(*key).is_some_and(|v| v == value))
    };
    measures.iter().find(fits)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_waits_caches_and_refusals_are_counted() {
    let (database, collector, azure) =
        (TestDatabase::create().await, Collector::start().await, LoopbackAzure::start().await);
    let process = serve_with_search(&database, &collector, &azure);
    for _ in 0..3 {
        process.sql(SEATTLE, "select order_id from orders order by 1 limit 7").await;
    }
    process.sql(HEAD_OFFICE, "drop table orders").await;
    process.sql(SEATTLE, "select nonsense").await;
    process.sql(NOBODY, "select 1").await;
    for _ in 0..2 {
        process.call(SEATTLE, "semantic_search_products", json!({ "query_description": "a hammer" })).await;
        process.call(SEATTLE, "get_multiple_table_schemas", json!({ "table_names": [] })).await;
    }
    process.client.get(format!("{}/no/such/page", process.url)).send().await.unwrap();
    // Of the pool, while it is there; of the rest, once all is done.
    collector.until("the pool", |c| find(&c.measures(), "db.client.connection.max", &[]).is_some()).await;
    process.end().await;

    let measures = collector.measures();
    let tool = ("gen_ai.tool.name", "execute_sales_query");
    for (name, labels, count, sum) in [
        ("rowgate.calls", &[tool, ("rowgate.outcome", "ok")][..], None, Some(3.0)),
        ("rowgate.calls", &[tool, ("rowgate.outcome", "refused")], None, Some(1.0)),
        ("rowgate.calls", &[tool, ("rowgate.outcome", "statement")], None, Some(1.0)),
        ("rowgate.calls", &[tool, ("rowgate.outcome", "unknown caller")], None, Some(1.0)),
        ("rowgate.call.rows", &[tool], Some(6), Some(21.0)),
        ("rowgate.refusals", &[("rowgate.reason", "statement")], None, Some(1.0)),
        ("rowgate.refusals", &[("rowgate.reason", "unknown caller")], None, Some(1.0)),
        ("rowgate.cache.lookups", &[("rowgate.cache", "vectors"), ("rowgate.hit", "true")], None, Some(1.0)),
        ("rowgate.cache.lookups", &[("rowgate.cache", "vectors"), ("rowgate.hit", "false")], None, Some(1.0)),
        ("rowgate.cache.lookups", &[("rowgate.cache", "catalog"), ("rowgate.hit", "false")], None, Some(1.0)),
        ("rowgate.start.duration", &[("rowgate.phase", "listen")], Some(1), None),
        ("rowgate.start.duration", &[("rowgate.phase", "connect")], Some(1), None),
        ("rowgate.start.duration", &[("rowgate.phase", "facts")], Some(1), None),
        ("rowgate.start.duration", &[("rowgate.phase", "query")], Some(1), None),
        (
            "mcp.server.operation.duration",
            &[tool, ("mcp.method.name", "tools/call"), ("error.type", "tool_error")],
            Some(3),
            None,
        ),
        (
            "http.server.request.duration",
            &[("http.route", "/mcp"), ("http.response.status_code", "200")],
            Some(10),
            None,
        ),
        (
            "http.server.request.duration",
            &[("http.route", "_OTHER"), ("http.response.status_code", "404")],
            Some(1),
            None,
        ),
        (
            "db.client.operation.duration",
            &[("db.operation.name", "query"), ("error.type", "unknown caller")],
            Some(1),
            None,
        ),
        ("db.client.connection.create_time", &[], Some(1), None),
        ("db.client.connection.count", &[("db.client.connection.state", "used")], None, Some(0.0)),
        ("db.client.connection.count", &[("db.client.connection.state", "idle")], None, Some(1.0)),
        ("db.client.connection.max", &[], None, Some(4.0)),
        ("db.client.connection.pending_requests", &[], None, Some(0.0)),
        ("gen_ai.client.operation.duration", &[("gen_ai.operation.name", "embeddings")], Some(1), None),
        ("gen_ai.client.token.usage", &[("gen_ai.request.model", "text-embedding-3-small")], Some(1), None),
    ] {
        let measure = find(&measures, name, labels).unwrap_or_else(|| panic!("no {name} {labels:?}: {measures:#?}"));
        assert!(count.is_none_or(|count| measure.count == count), "{measure:?}");
        assert!(sum.is_none_or(|sum| (measure.sum - sum).abs() < 1e-9), "{measure:?}");
    }

    // Only what is documented, in the documented unit; and no label says who asked or what.
    let known: Vec<(&str, &str)> = names::ALL.iter().map(|(name, unit, _)| (*name, *unit)).collect();
    for measure in &measures {
        assert!(known.contains(&(measure.name.as_str(), measure.unit.as_str())), "{measure:?}");
        for (key, value) in &measure.labels {
            assert!(
                !value.contains("select") && ![SEATTLE, NOBODY, HEAD_OFFICE].contains(&value.as_str()),
                "{key}={value}"
            );
        }
    }
    assert!(measures.len() < 80, "{} series", measures.len());
}

#[tokio::test]
async fn prometheus_reads_them_on_an_address_of_their_own_and_nowhere_else() {
    let database = TestDatabase::create().await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let process = Process::serve(&database, &[("ROWGATE_METRICS_ADDRESS", &address)]);
    process.sql(SEATTLE, "select 1").await;
    let read = process.client.get(format!("http://{address}/metrics")).send().await.unwrap();
    assert!(read.headers()["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    let text = read.text().await.unwrap();
    for line in [
        "# TYPE rowgate_calls_total counter",
        "rowgate_calls_total{gen_ai_tool_name=\"execute_sales_query\"",
        "mcp_server_operation_duration_seconds_bucket{",
        "db_client_connection_max",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!text.contains(SEATTLE), "{text}");
    let public = process.client.get(format!("{}/metrics", process.url)).send().await.unwrap();
    assert_eq!(public.status(), 404);
    let other = process.client.get(format!("http://{address}/mcp")).send().await.unwrap();
    assert_eq!(other.status(), 404);
}

/// Every instrument, with its unit and meaning, is in docs/operate.md, and nothing that is none.
#[test]
fn the_documentation_has_every_measure() {
    let text = fs::read_to_string("docs/operate.md").unwrap();
    for (name, unit, about) in names::ALL {
        let row = format!("| `{name}` | {unit} | {about} |");
        assert!(text.contains(&row), "docs/operate.md lacks this row:\n{row}");
    }
    let names: BTreeSet<&str> = names::ALL.iter().map(|(name, ..)| *name).collect();
    assert_eq!(names.len(), names::ALL.len());
}
