//! MCP in both of its eras at one address: by rmcp's client and by raw HTTP.

use std::collections::HashMap;

use rmcp::RoleClient;
use rmcp::model::{CallToolRequestParams, ProtocolVersion};
use rmcp::service::{ClientLifecycleMode, ClientServiceExt, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use serde_json::{Value, json};

use crate::support::{HEAD_OFFICE, SEATTLE, TestServer};

async fn client(
    server: &TestServer,
    principal: &str,
    lifecycle: ClientLifecycleMode,
) -> RunningService<RoleClient, ()> {
    let headers = HashMap::from([("x-rls-user-id".parse().unwrap(), principal.parse().unwrap())]);
    let config = StreamableHttpClientTransportConfig::with_uri(format!("{}/mcp", server.url)).custom_headers(headers);
    ().serve_with_lifecycle(StreamableHttpClientTransport::from_config(config), lifecycle).await.unwrap()
}

fn eras() -> [ClientLifecycleMode; 2] {
    [
        ClientLifecycleMode::Initialize,
        ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] },
    ]
}

#[tokio::test]
async fn both_eras_ask_as_a_store_and_as_head_office() {
    let server = TestServer::start().await;
    let revenue = json!({ "postgresql_query":
        "select store_name, sum(total_amount) from order_items join stores using (store_id) group by 1 order by 1" });
    for lifecycle in eras() {
        let mut answers = Vec::new();
        for principal in [SEATTLE, HEAD_OFFICE] {
            let client = client(&server, principal, lifecycle.clone()).await;
            let tools: Vec<String> =
                client.list_all_tools().await.unwrap().into_iter().map(|tool| tool.name.into()).collect();
            assert_eq!(
                tools,
                [
                    "get_multiple_table_schemas",
                    "execute_sales_query",
                    "semantic_search_products",
                    "find_similar_products",
                    "get_current_utc_date"
                ]
            );
            let call =
                CallToolRequestParams::new("execute_sales_query").with_arguments(revenue.as_object().unwrap().clone());
            let result = client.call_tool(call).await.unwrap();
            assert_ne!(result.is_error, Some(true), "{result:?}");
            answers.push(result.structured_content.unwrap()["rows"].clone());
            client.cancel().await.unwrap();
        }
        let (seattle, office) = (answers[0].as_array().unwrap(), answers[1].as_array().unwrap());
        assert_eq!((seattle.len(), office.len()), (1, 8), "{lifecycle:?}");
        assert_eq!(seattle[0][0], json!("Zava Retail Seattle"));
        assert!(office.contains(&seattle[0]));
    }
}

#[tokio::test]
async fn the_list_of_tools_is_what_it_was() {
    let server = TestServer::start().await;
    let list = server.request(None, "tools/list", json!({})).await;
    insta::assert_json_snapshot!("tools", list["result"]);
    // Each byte is read by every model that ever connects.
    let size = list["result"].to_string().len();
    assert!(size < 8_300, "{size} bytes");
    println!("tools/list has {size} bytes");
}

/// A request of the stateless revision.
fn stateless(server: &TestServer, method: &str, params: Value) -> reqwest::RequestBuilder {
    let mut params = params;
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let body = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params });
    let request = server.post(Some(SEATTLE)).header("mcp-protocol-version", "2026-07-28").header("mcp-method", method);
    let request = match params.get("name").or(params.get("uri")).and_then(Value::as_str) {
        Some(name) => request.header("mcp-name", name),
        None => request,
    };
    request.body(body.to_string())
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_str(&response.text().await.unwrap()).unwrap_or(Value::Null))
}

#[tokio::test]
async fn every_result_of_the_stateless_revision_says_what_it_is() {
    let server = TestServer::start().await;
    for (method, params, cached) in [
        ("server/discover", json!({}), Some("public")),
        ("tools/list", json!({}), Some("public")),
        ("prompts/list", json!({}), Some("public")),
        ("prompts/get", json!({ "name": "sales_review" }), None),
        ("resources/templates/list", json!({}), Some("public")),
        ("resources/list", json!({}), Some("private")),
        ("resources/read", json!({ "uri": "schema://retail/stores" }), Some("private")),
        ("tools/call", json!({ "name": "get_current_utc_date", "arguments": {} }), None),
        (
            "tools/call",
            json!({ "name": "execute_sales_query", "arguments": { "postgresql_query": "select nothing" } }),
            None,
        ),
    ] {
        let (status, answer) = answer(stateless(&server, method, params)).await;
        let result = &answer["result"];
        assert_eq!(status, 200, "{method}: {answer}");
        assert_eq!(result["resultType"], json!("complete"), "{method}: {answer}");
        assert_eq!(
            result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"],
            json!("rowgate"),
            "{method}: {answer}"
        );
        assert_eq!(result["cacheScope"].as_str(), cached, "{method}: {answer}");
        assert_eq!(result["ttlMs"].as_u64().is_some_and(|ttl| ttl > 0), cached.is_some(), "{method}: {answer}");
    }
    let (_, discovered) = answer(stateless(&server, "server/discover", json!({}))).await;
    let versions = discovered["result"]["supportedVersions"].as_array().unwrap();
    assert!(versions.contains(&json!("2026-07-28")) && versions.contains(&json!("2025-11-25")), "{versions:?}");
}

#[tokio::test]
async fn requests_that_contradict_themselves_are_refused_as_the_revision_says() {
    let server = TestServer::start().await;
    let code = async |request: reqwest::RequestBuilder| {
        let (status, answer) = answer(request).await;
        (status, answer["error"]["code"].as_i64().unwrap_or_default())
    };
    assert_eq!(code(stateless(&server, "no/such", json!({}))).await, (404, -32601));
    assert_eq!(code(stateless(&server, "ping", json!({}))).await, (404, -32601));
    let unknown = stateless(&server, "tools/call", json!({ "name": "no_such_tool", "arguments": {} }));
    assert_eq!(code(unknown).await.1, -32602);
    let told = server.request(Some(SEATTLE), "tools/call", json!({ "name": "no_such_tool" })).await["error"]["message"]
        .clone();
    assert!(told.as_str().unwrap().contains("The tools are: get_multiple_table_schemas, "), "{told}");
    for list in ["tools/list", "prompts/list", "resources/list", "resources/templates/list"] {
        assert_eq!(code(stateless(&server, list, json!({ "cursor": "zzz" }))).await.1, -32602, "{list}");
    }
    let call = json!({ "name": "get_current_utc_date", "arguments": {} });
    let contradicting = stateless(&server, "tools/call", call).build().unwrap();
    let mut contradicting = contradicting;
    contradicting.headers_mut().insert("mcp-name", "execute_sales_query".parse().unwrap());
    let response = server.client.execute(contradicting).await.unwrap();
    assert_eq!(response.status(), 400);
    let unsupported = server
        .post(Some(SEATTLE))
        .header("mcp-protocol-version", "1999-01-01")
        .header("mcp-method", "tools/list")
        .body(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"1999-01-01","io.modelcontextprotocol/clientCapabilities":{}}}}"#);
    assert_eq!(code(unsupported).await, (400, -32022));
}

#[tokio::test]
async fn what_vs_code_sends_first_is_answered() {
    let server = TestServer::start().await;
    let hello = json!({ "protocolVersion": "2025-11-25", "capabilities": { "roots": { "listChanged": true } },
                        "clientInfo": { "name": "Visual Studio Code", "version": "1.139.0" } });
    let answered = server.request(Some(SEATTLE), "initialize", hello).await;
    let result = &answered["result"];
    assert_eq!(result["protocolVersion"], json!("2025-11-25"));
    assert_eq!(result["serverInfo"]["name"], json!("rowgate"));
    assert!(result["instructions"].as_str().unwrap().len() > 100);
    let icon = result["serverInfo"]["icons"][0]["src"].as_str().unwrap();
    assert!(icon.starts_with("data:image/png;base64,iVBOR"), "{icon}");
    let initialized = server.post(Some(SEATTLE)).body(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    assert_eq!(answer(initialized).await, (202, Value::Null));
}

#[tokio::test]
async fn the_door_is_narrow() {
    let server = TestServer::start_with(&[
        ("ROWGATE_BODY_BYTES", "4096"),
        ("ROWGATE_ALLOWED_HOSTS", "mcp.example.com"),
        ("ROWGATE_ALLOWED_ORIGINS", "https://app.example.com:443"),
    ])
    .await;
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let status = async |request: reqwest::RequestBuilder| request.send().await.unwrap().status().as_u16();
    let mcp = format!("{}/mcp", server.url);
    for method in [reqwest::Method::GET, reqwest::Method::DELETE, reqwest::Method::PUT] {
        let response = server.client.request(method, &mcp).header("accept", "text/event-stream").send().await.unwrap();
        assert_eq!((response.status().as_u16(), response.headers()["allow"].to_str().unwrap()), (405, "POST"));
    }
    assert_eq!(status(server.post(None).body(list)).await, 200);
    assert_eq!(status(server.post(None).header("host", "mcp.example.com").body(list)).await, 200);
    assert_eq!(status(server.post(None).header("host", "evil.example.com").body(list)).await, 403);
    assert_eq!(status(server.post(None).header("origin", "https://app.example.com").body(list)).await, 200);
    assert_eq!(status(server.post(None).header("origin", "https://evil.example.com").body(list)).await, 403);
    assert_eq!(status(server.post(None).header("origin", "null").body(list)).await, 403);
    assert_eq!(status(server.post(None).body("x".repeat(5_000))).await, 413);
    assert_eq!(status(server.post(None).body("{")).await, 400);
    assert_eq!(status(server.client.post(&mcp).body(list)).await, 406);
}

#[tokio::test]
async fn a_call_that_takes_long_reports_progress_to_those_who_asked() {
    let server = TestServer::start_with(&[("ROWGATE_STATEMENT_SECONDS", "7")]).await;
    let call = |meta: Value| {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "_meta": meta,
            "name": "execute_sales_query", "arguments": { "postgresql_query": "select count(*) from generate_series(1, 2000000000)" } } });
        server.post(Some(SEATTLE)).body(body.to_string()).send()
    };
    let (quiet, told) = tokio::join!(call(json!({})), call(json!({ "progressToken": "p1" })));
    let (quiet, told) = (quiet.unwrap(), told.unwrap());
    assert_eq!(quiet.headers()["content-type"], "application/json");
    assert_eq!(told.headers()["content-type"], "text/event-stream");
    let told = told.text().await.unwrap();
    assert!(told.contains("notifications/progress") && told.contains("\"progressToken\":\"p1\""), "{told}");
    assert!(told.contains("ran for too long"), "{told}");
}

#[tokio::test]
async fn calls_in_flight_finish_when_the_server_is_told_to_end() {
    let mut server = TestServer::start().await;
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "execute_sales_query", "arguments": { "postgresql_query": "select count(*) from generate_series(1, 3000000)" } } });
    let request = server.post(Some(SEATTLE)).body(request.to_string());
    let call = tokio::spawn(answer(request));
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    server.stop().await;
    let (status, answered) = call.await.unwrap();
    assert_eq!((status, &answered["result"]["structuredContent"]["rows"]), (200, &json!([[3_000_000]])));
    assert!(server.client.get(&server.url).send().await.is_err());
}
