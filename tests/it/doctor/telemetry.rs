//! Where telemetry goes, and whether it is taken there; callers do not depend on it.

use super::{Said, doctor, settings, with};
use crate::support::TestDatabase;
use crate::support::azure::{CLIENT_ID, LoopbackAzure};
use crate::support::collector::{Collecting, Collector};

#[tokio::test]
async fn a_collector_is_sent_no_span_and_its_answer_is_told() {
    let (database, collector) = (TestDatabase::create().await, Collector::start().await);
    let otlp = async |url: &str| with(&database, &[("OTEL_EXPORTER_OTLP_ENDPOINT", url)], &[]).await;
    let well = otlp(&collector.url()).await;
    let (mark, seen, _) = well.of("telemetry");
    let to = format!("OTLP to {}/v1/traces", collector.url());
    assert!(well.healthy && mark == "ok" && seen.starts_with(&format!("{to}, taken in ")), "{}", well.text);
    assert!(!collector.raw().is_empty() && collector.spans().is_empty());

    let running = "is OTEL_EXPORTER_OTLP_ENDPOINT right, does the collector run, does it take OTLP over HTTP there?";
    let warned = |said: &Said, seen: &str, run: &str| {
        assert!(said.healthy, "{}", said.text);
        assert_eq!(said.of("telemetry"), ("warning", seen, run));
    };
    collector.will(Collecting::Fails);
    warned(&otlp(&collector.url()).await, &format!("{to}: the answer was 503"), "look at the collector's log");
    collector.will(Collecting::Hangs);
    warned(&otlp(&collector.url()).await, &format!("{to}: no answer in 3s"), running);
    let elsewhere = format!("{}/v1/traces", collector.url());
    warned(
        &otlp(&elsewhere).await,
        &format!("OTLP to {elsewhere}/v1/traces: the answer was 404"),
        "OTEL_EXPORTER_OTLP_ENDPOINT is the address without /v1/traces, of a receiver of OTLP over HTTP",
    );
    let closed = otlp("http://somebody:hidden-word@127.0.0.1:9").await;
    let (mark, seen, run) = closed.of("telemetry");
    assert!(closed.healthy && mark == "warning" && run == running, "{}", closed.text);
    assert!(seen.starts_with("OTLP to http://127.0.0.1:9/v1/traces: not reached: "), "{seen}");
    assert!(!closed.text.contains("hidden-word"), "{}", closed.text);

    let read = with(&database, &[("ROWGATE_METRICS_ADDRESS", "127.0.0.1:9464")], &[]).await;
    assert_eq!(read.of("telemetry"), ("ok", "measures for Prometheus at http://127.0.0.1:9464/metrics", ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn application_insights_is_asked_for_as_the_identity_where_it_wants_that() {
    let (database, azure) = (TestDatabase::create().await, LoopbackAzure::start().await);
    let connection_string = azure.insights.connection_string();
    let own = settings(&database);
    let around = azure.environment();
    let with = async |more: &[(&str, &str)]| {
        let mut environment: Vec<(&str, &str)> = own.iter().map(|(name, value)| (*name, value.as_str())).collect();
        environment.extend(around.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        environment.extend([
            ("APPLICATIONINSIGHTS_CONNECTION_STRING", connection_string.as_str()),
            ("ROWGATE_MANAGED_IDENTITY_CLIENT_ID", CLIENT_ID),
        ]);
        environment.extend(more);
        doctor(&environment, &[]).await
    };
    let alone = with(&[]).await;
    assert_eq!(alone.of("telemetry"), ("ok", "Application Insights, by its connection string alone", ""));
    let by_identity = ("APPLICATIONINSIGHTS_AUTHENTICATION_STRING", "Authorization=AAD");
    let well = with(&[by_identity]).await;
    assert_eq!(well.of("telemetry"), ("ok", "Application Insights, as the managed identity, which has a token", ""));
    assert!(well.healthy && azure.insights.envelopes().is_empty(), "{}", well.text);

    let nobody = with(&[by_identity, ("IDENTITY_ENDPOINT", "http://127.0.0.1:9/")]).await;
    let (mark, seen, run) = nobody.of("telemetry");
    assert!(nobody.healthy && mark == "warning" && seen.contains("gives no token"), "{}", nobody.text);
    assert!(run.ends_with("give it the role Monitoring Metrics Publisher on the resource"), "{run}");

    // With this one no server starts.
    let wrong = with(&[("APPLICATIONINSIGHTS_CONNECTION_STRING", "hidden-word")]).await;
    let (mark, _, run) = wrong.of("telemetry");
    assert!(!wrong.healthy && mark == "failed" && !wrong.text.contains("hidden-word"), "{}", wrong.text);
    assert_eq!(run, "APPLICATIONINSIGHTS_CONNECTION_STRING has to be as the resource's page in the portal shows it");
}
