//! Application Insights, behind its real name and TLS, with a token of the managed identity.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::azure::{CLIENT_ID, InsightsFault, LoopbackAzure};
use crate::support::{Process, SEATTLE, TestDatabase};

fn serve(database: &TestDatabase, azure: &LoopbackAzure, more: &[(&str, &str)]) -> Process {
    let connection_string = azure.insights.connection_string();
    let mut environment: Vec<(String, String)> = azure.environment();
    environment.extend(
        [
            ("APPLICATIONINSIGHTS_CONNECTION_STRING", connection_string.as_str()),
            ("APPLICATIONINSIGHTS_AUTHENTICATION_STRING", &format!("Authorization=AAD;ClientId={CLIENT_ID}")),
            ("ROWGATE_MANAGED_IDENTITY_CLIENT_ID", CLIENT_ID),
            ("WEBSITE_INSTANCE_ID", "instance-17"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain(more.iter().copied()).collect();
    Process::serve(database, &environment)
}

fn of_type(envelopes: &[Value], base_type: &str) -> Vec<Value> {
    envelopes.iter().filter(|envelope| envelope["data"]["baseType"] == base_type).cloned().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_dependencies_measures_and_traces_arrive_with_a_token() {
    let (database, azure) = (TestDatabase::create().await, LoopbackAzure::start().await);
    let process = serve(&database, &azure, &[]);
    process.sql(SEATTLE, "select 1").await;
    process.sql(SEATTLE, "select nonsense").await;
    let written = process.end().await;
    let envelopes = azure.insights.envelopes();
    assert!(!envelopes.is_empty(), "{written}");

    let requests = of_type(&envelopes, "RequestData");
    let named = |name: &'static str| requests.iter().filter(move |r| r["data"]["baseData"]["name"] == name);
    assert_eq!(named("POST /mcp").count(), 2, "{requests:#?}");
    let calls: Vec<_> = named("tools/call execute_sales_query").collect();
    assert_eq!(
        calls.iter().map(|call| &call["data"]["baseData"]["success"]).collect::<Vec<_>>(),
        [&json!(true), &json!(false)]
    );
    let dependencies = of_type(&envelopes, "RemoteDependencyData");
    let query = dependencies.iter().find(|d| d["data"]["baseData"]["name"] == "query").unwrap();
    assert_eq!(query["data"]["baseData"]["type"], "postgresql");
    // One operation, from the request to the database.
    assert_eq!(query["tags"]["ai.operation.id"], calls[0]["tags"]["ai.operation.id"]);
    assert_eq!(query["tags"]["ai.operation.parentId"], calls[0]["data"]["baseData"]["id"]);
    assert_eq!(
        (&query["tags"]["ai.cloud.role"], &query["tags"]["ai.cloud.roleInstance"]),
        (&json!("rowgate"), &json!("instance-17"))
    );

    let metrics = of_type(&envelopes, "MetricData");
    let calls = metrics.iter().filter(|m| m["data"]["baseData"]["metrics"][0]["name"] == "rowgate.calls").count();
    assert!(calls >= 2, "{metrics:#?}");
    let messages = of_type(&envelopes, "MessageData");
    assert!(messages.iter().any(|m| m["data"]["baseData"]["message"] == "call"), "{messages:#?}");
    assert!(
        azure.insights.requests.all().iter().all(|asked| asked.status == 200),
        "{:?}",
        azure.insights.requests.all()
    );
}

/// Behind the Functions host, standard output goes to Application Insights already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_the_functions_host_the_log_goes_one_way() {
    let (database, azure) = (TestDatabase::create().await, LoopbackAzure::start().await);
    let process = serve(&database, &azure, &[("FUNCTIONS_CUSTOMHANDLER_PORT", "0")]);
    process.sql(SEATTLE, "select 1").await;
    assert!(!process.logged("call").await.is_empty());
    process.end().await;
    let envelopes = azure.insights.envelopes();
    assert!(!of_type(&envelopes, "RequestData").is_empty());
    assert_eq!(of_type(&envelopes, "MessageData"), [] as [Value; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_application_insights_answers_callers_do_not_notice() {
    let (database, azure) = (TestDatabase::create().await, LoopbackAzure::start().await);
    for fault in [InsightsFault::Forbidden, InsightsFault::Failing, InsightsFault::Hangs] {
        azure.insights.faults.end();
        azure.insights.faults.always(fault);
        let process = serve(&database, &azure, &[]);
        let before = azure.insights.requests.all().len();
        for _ in 0..20 {
            assert_eq!(process.sql(SEATTLE, "select 1").await["structuredContent"]["rows"], json!([[1]]));
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while azure.insights.requests.all().len() == before {
            assert!(Instant::now() < deadline, "{fault:?}: nothing was sent");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let asked = Instant::now();
        let written = process.end().await;
        assert!(asked.elapsed() < Duration::from_secs(20), "{fault:?}");
        let told = written.matches("telemetry can not be exported").count();
        assert!(told <= 1, "{fault:?}: {written}");
        assert!(!azure.identity.issued("https://monitor.azure.com").iter().any(|token| written.contains(token)));
    }
}
