//! Spans and log records over OTLP: their names, their parents, what they say, and that exporting keeps nobody waiting.

use std::time::{Duration, Instant};

use serde_json::json;

use super::serve_with_search;
use crate::support::azure::LoopbackAzure;
use crate::support::collector::{CollectedSpan, Collecting, Collector};
use crate::support::{NOBODY, Process, SEATTLE, TestDatabase};

const SERVER: i32 = 2;
const CLIENT: i32 = 3;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn named<'a>(spans: &'a [CollectedSpan], name: &str) -> &'a CollectedSpan {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name}: {spans:#?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_a_trace_from_the_host_to_the_database() {
    let (database, collector, azure) =
        (TestDatabase::create().await, Collector::start().await, LoopbackAzure::start().await);
    let process = serve_with_search(&database, &collector, &azure);
    let call = json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call",
        "params": { "name": "execute_sales_query", "arguments": { "postgresql_query": "select count(*) from orders" } } });
    let request = process
        .request(SEATTLE, &call)
        .header("traceparent", format!("00-{TRACE}-{PARENT}-01"))
        .header("x-azure-functions-invocationid", "5d1f3c7e-invocation");
    assert!(request.send().await.unwrap().status().is_success());
    // Nothing is asked any more, so what was recorded is sent at once and not when the exporter's own time has come.
    collector.until("the request's span", |c| c.spans().iter().any(|span| span.name == "POST /mcp")).await;

    let spans = collector.spans();
    let (http, tool) = (named(&spans, "POST /mcp"), named(&spans, "tools/call execute_sales_query"));
    let (connect, facts, query) = (named(&spans, "connect"), named(&spans, "facts"), named(&spans, "query"));
    assert!(spans.iter().all(|span| span.trace == TRACE), "{spans:#?}");
    assert_eq!((http.parent.as_str(), http.kind, tool.kind), (PARENT, SERVER, SERVER));
    assert_eq!(
        (&tool.parent, &connect.parent, &query.parent, &facts.parent),
        (&http.id, &tool.id, &tool.id, &query.id)
    );
    assert!([connect, facts, query].iter().all(|span| span.kind == CLIENT));
    for (span, key, value) in [
        (http, "http.request.method", "POST"),
        (http, "http.route", "/mcp"),
        (http, "http.response.status_code", "200"),
        (http, "faas.invocation_id", "5d1f3c7e-invocation"),
        (tool, "mcp.method.name", "tools/call"),
        (tool, "gen_ai.tool.name", "execute_sales_query"),
        (tool, "gen_ai.operation.name", "execute_tool"),
        (tool, "jsonrpc.request.id", "7"),
        (query, "db.system.name", "postgresql"),
        (query, "db.operation.name", "query"),
        (query, "db.namespace", database.name.as_str()),
    ] {
        assert_eq!(span.attributes.get(key).map(String::as_str), Some(value), "{key}: {span:#?}");
    }
    let resource = collector.resource();
    assert_eq!(resource["service.name"], "rowgate");
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));

    // What is logged names the trace, here and there.
    collector.until("the call's record", |c| c.logs().iter().any(|log| log.body == "call")).await;
    let logs = collector.logs();
    let record = logs.iter().find(|log| log.body == "call").unwrap();
    assert_eq!((record.trace.as_str(), record.severity.as_str()), (TRACE, "INFO"));
    assert_eq!(
        (record.attributes["tool"].as_str(), record.attributes["outcome"].as_str()),
        ("execute_sales_query", "ok")
    );
    assert_eq!(process.logged("call").await[0]["trace_id"], TRACE);

    // A message that names a trace itself is of that one, and points at the request that brought it.
    let own = "0af7651916cd43dd8448eb211c80319c";
    let meta = json!({ "traceparent": format!("00-{own}-b7ad6b7169203331-01") });
    let call = json!({ "jsonrpc": "2.0", "id": 8, "method": "tools/call", "params": { "_meta": meta,
        "name": "semantic_search_products", "arguments": { "query_description": "a hammer" } } });
    process.request(SEATTLE, &call).send().await.unwrap();
    collector.until("the search", |c| c.spans().iter().any(|span| span.trace == own)).await;
    collector.until("its request", |c| c.spans().iter().filter(|span| span.name == "POST /mcp").count() == 2).await;
    let spans = collector.spans();
    let search = named(&spans, "tools/call semantic_search_products");
    assert_eq!((search.trace.as_str(), search.parent.as_str()), (own, "b7ad6b7169203331"));
    let request = spans.iter().find(|span| span.name == "POST /mcp" && span.trace != TRACE).unwrap();
    assert_eq!(search.links, std::slice::from_ref(&request.id));
    let embedding = named(&spans, "embeddings text-embedding-3-small");
    assert_eq!((&embedding.parent, embedding.kind), (&search.id, CLIENT));
    assert_eq!(embedding.attributes["gen_ai.provider.name"], "azure.ai.openai");
    assert!(embedding.attributes["gen_ai.usage.input_tokens"].parse::<u64>().unwrap() > 0);
    // The vector first, the connection then.
    assert_eq!(named(&spans, "search").parent, search.id);
}

#[tokio::test]
async fn what_fails_is_a_failed_span_of_its_kind() {
    let (database, collector) = (TestDatabase::create().await, Collector::start().await);
    let process = Process::serve(&database, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url())]);
    process.sql(SEATTLE, "select 1").await;
    process.sql(SEATTLE, "select no_such_column from orders").await;
    process.sql(NOBODY, "select 1").await;
    let failed = |c: &Collector| -> Vec<_> { c.spans().into_iter().filter(|span| span.failed).collect() };
    collector.until("four failures", |c| failed(c).len() >= 4).await;
    let failed = failed(&collector);
    let kinds: Vec<_> =
        failed.iter().map(|span| (span.name.as_str(), span.attributes["error.type"].as_str())).collect();
    for expected in
        [("query", "statement"), ("query", "unknown caller"), ("tools/call execute_sales_query", "tool_error")]
    {
        assert!(kinds.contains(&expected), "{kinds:?}");
    }
    let mistaken = failed.iter().find(|span| span.attributes["error.type"] == "statement").unwrap();
    assert_eq!(mistaken.attributes["db.response.status_code"], "42703");
}

#[tokio::test]
async fn whoever_calls_decides_whether_a_trace_is_recorded() {
    let (database, collector) = (TestDatabase::create().await, Collector::start().await);
    let process =
        Process::serve(&database, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url()), ("ROWGATE_TRACE_RATIO", "0")]);
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {} });
    process.request(SEATTLE, &call).send().await.unwrap();
    process.request(SEATTLE, &call).header("traceparent", format!("00-{TRACE}-{PARENT}-00")).send().await.unwrap();
    process.request(SEATTLE, &call).header("traceparent", format!("00-{TRACE}-{PARENT}-01")).send().await.unwrap();
    collector.until("the one that is wanted", |c| c.spans().iter().any(|span| span.name == "POST /mcp")).await;
    process.end().await;
    let requests: Vec<_> = collector.spans().into_iter().filter(|span| span.name == "POST /mcp").collect();
    assert_eq!(requests.len(), 1, "{requests:#?}");
}

#[tokio::test]
async fn what_is_left_is_sent_at_the_end() {
    let (database, collector) = (TestDatabase::create().await, Collector::start().await);
    let process = Process::serve(&database, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url())]);
    process.sql(SEATTLE, "select 1").await;
    process.end().await;
    assert!(collector.spans().iter().any(|span| span.name == "query"));
    assert!(collector.measures().iter().any(|measure| measure.name == "rowgate.calls"));
    assert!(collector.logs().iter().any(|log| log.body == "call"));
}

/// No collector, one that fails and one that hangs: callers do not notice, the log says it once, and the end comes soon.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_does_not_answer_keeps_nobody_waiting() {
    let database = TestDatabase::create().await;
    let collector = Collector::start().await;
    for how in [None, Some(Collecting::Fails), Some(Collecting::Hangs)] {
        let url = how.map_or_else(|| "http://127.0.0.1:9".to_owned(), |_| collector.url());
        collector.will(how.unwrap_or(Collecting::Takes));
        let process = Process::serve(&database, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &url)]);
        for _ in 0..200 {
            let answer = process.sql(SEATTLE, "select 1").await;
            assert_eq!(answer["structuredContent"]["rows"], json!([[1]]));
        }
        let asked = Instant::now();
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let written = process.end().await;
        // What hangs has its own time, and the process does not wait for it.
        assert!(asked.elapsed() < Duration::from_secs(20), "{how:?}: {:?}", asked.elapsed());
        let told = written.lines().filter(|line| line.contains("telemetry can not be exported")).count();
        assert!(told <= 1 && (told == 1 || how == Some(Collecting::Hangs)), "{how:?}: {written}");
    }
}
