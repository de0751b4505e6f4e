//! Bodies: what is no JSON, no JSON-RPC, or no MCP, down to ids, tokens and versions of every kind.

use serde_json::{Value, json};

use crate::support::raw::{RawAnswer, Served, post};

/// One value of each kind that JSON has, and those at its edges.
fn of_every_kind() -> Vec<Value> {
    let mut kinds = vec![
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(1e300),
        json!(i64::MIN),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(""),
        json!("a"),
        json!("\u{0}\u{7f}\u{2028}\u{1f4a9}"),
        json!("x".repeat(10_000)),
        json!([]),
        json!([1, "a", null]),
        json!({}),
        json!({ "id": 1, "": null }),
    ];
    kinds.push((0..50).fold(json!(1), |inner, _| json!([inner])));
    kinds
}

/// The answer, which is JSON-RPC or, to what wants none, nothing.
async fn posted(server: &Served, body: impl AsRef<[u8]>) -> RawAnswer {
    let shown = String::from_utf8_lossy(&body.as_ref()[..body.as_ref().len().min(200)]).into_owned();
    let answer = server.ask(post(body, "")).await;
    if answer.status == 202 {
        assert!(answer.body.is_empty(), "{shown}: {answer:?}");
    } else {
        let told = answer.json();
        assert!(told["result"].is_object() != told["error"].is_object(), "{shown}: {told}");
        assert!([200, 400, 404, 503].contains(&answer.status), "{shown}: {answer:?}");
    }
    answer
}

#[tokio::test]
async fn what_is_no_json_is_said_to_be_none() {
    let server = Served::start(&[("ROWGATE_BODY_BYTES", "4194304")]).await;
    let (before, _) = server.memory();
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000));
    let inside = |value: &str| list.replace("\"tools/list\"", &format!("\"tools/list\",\"params\":{value}"));
    let bodies: Vec<Vec<u8>> = vec![
        vec![],
        b"{".to_vec(),
        b"\0".repeat(100_000),
        b"\xff\xfe\xfd".to_vec(),
        list.replace("tools", "t\u{0}ols").into_bytes(),
        [b"\xef\xbb\xbf", list.as_bytes()].concat(),
        [&b"\xff\xfe"[..], &utf16(list)].concat(),
        utf16(list),
        [list.as_bytes(), b"\xff"].concat(),
        list.replace("list", "l\u{1}st").into_bytes(),
        list.as_bytes().iter().map(|byte| if *byte == b't' { 0xc0 } else { *byte }).collect(),
        list.replace("tools/list", r"\ud800").into_bytes(),
        list.replace("tools/list", r"\udc00\ud800").into_bytes(),
        format!("{list}{list}").into_bytes(),
        format!("{list},").into_bytes(),
        list.replace('"', "'").into_bytes(),
        list.replace(":1,", ":1e999,").into_bytes(),
        list.replace(":1,", ":01,").into_bytes(),
        list.replace(":1,", ":NaN,").into_bytes(),
        deep("[", "]").into_bytes(),
        "[".repeat(1_000_000).into_bytes(),
        deep("{\"a\":", "}").into_bytes(),
        inside(&deep("[", "]")).into_bytes(),
        inside(&format!("{{\"a\":{}1{}}}", "{\"a\":".repeat(100_000), "}".repeat(100_000))).into_bytes(),
        inside(&format!("{{\"a\":{}}}", "9".repeat(1_000_000))).into_bytes(),
    ];
    for body in bodies {
        let answer = posted(&server, &body).await;
        let shown = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        assert_eq!(answer.refusal(), (400, -32700), "{shown}");
    }
    let (_, most) = server.memory();
    assert!(most < before + 100, "{before} MB became {most} MB");
    server.ends_well().await;
}

#[tokio::test]
async fn ids_methods_and_parameters_of_every_kind() {
    let server = Served::start(&[]).await;
    for value in of_every_kind() {
        let shown = value.to_string();
        let request = |change: &str, value: &Value| {
            let mut request = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {} });
            request[change] = value.clone();
            request.to_string()
        };
        let answer = posted(&server, request("id", &value)).await;
        let is_id = value.is_i64() || value.is_string();
        if is_id {
            assert_eq!((answer.status, &answer.json()["id"]), (200, &value), "{shown}");
        } else {
            // It would wait for an answer that a notification does not get.
            assert_eq!(answer.refusal(), (400, -32700), "{shown}");
        }
        assert_eq!(posted(&server, request("jsonrpc", &value)).await.status, 400, "{shown}");
        let answer = posted(&server, request("method", &value)).await;
        assert!(answer.json()["error"].is_object(), "{shown}");
        posted(&server, request("params", &value)).await;
        posted(&server, request("result", &value)).await;
        posted(&server, request("error", &value)).await;
        for tool in ["execute_sales_query", "get_multiple_table_schemas", "get_current_utc_date", "no_such_tool"] {
            for params in [
                json!({ "name": tool, "arguments": value }),
                json!({ "name": tool, "arguments": { "postgresql_query": value, "table_names": value, "max_rows": value } }),
                json!({ "name": tool, "arguments": {}, "_meta": value }),
            ] {
                posted(&server, request("params", &params).replace("tools/list", "tools/call")).await;
            }
        }
        for (method, params) in [
            ("tools/call", json!({ "name": value })),
            ("resources/read", json!({ "uri": value })),
            ("prompts/get", json!({ "name": "sales_review", "arguments": value })),
            ("completion/complete", json!({ "ref": value, "argument": value })),
            ("initialize", value.clone()),
            ("server/discover", value.clone()),
            ("logging/setLevel", json!({ "level": value })),
            ("tasks/get", json!({ "taskId": value })),
        ] {
            posted(&server, request("params", &params).replace("tools/list", method)).await;
        }
    }
    server.ends_well().await;
}

#[tokio::test]
async fn keys_that_stand_twice_and_messages_in_arrays() {
    let server = Served::start(&[]).await;
    let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }).to_string();
    for body in [
        "[]".to_owned(),
        format!("[{list}]"),
        format!("[{}]", [list.as_str(); 1_000].join(",")),
        "[1,2,3]".to_owned(),
        "null".to_owned(),
        "1".to_owned(),
        "\"tools/list\"".to_owned(),
        "{}".to_owned(),
        json!({ "id": 1, "method": "tools/list" }).to_string(),
        json!({ "jsonrpc": "1.0", "id": 1, "method": "tools/list" }).to_string(),
        json!({ "jsonrpc": "2.0", "id": 1 }).to_string(),
    ] {
        assert_eq!(posted(&server, &body).await.refusal(), (400, -32700), "{body}");
    }
    for body in [
        json!({ "jsonrpc": "2.0", "id": 1, "result": {} }).to_string(),
        json!({ "jsonrpc": "2.0", "id": 1, "error": { "code": -1, "message": "m" } }).to_string(),
    ] {
        assert_eq!(posted(&server, &body).await.refusal(), (400, -32600), "{body}");
    }
    // Whatever of the two counts, it is one answer.
    for (key, twice) in [
        ("\"id\":1", "\"id\":1,\"id\":2"),
        ("\"jsonrpc\":\"2.0\"", "\"jsonrpc\":\"2.0\",\"jsonrpc\":\"1.0\""),
        ("\"method\":\"tools/list\"", "\"method\":\"tools/list\",\"method\":\"ping\""),
        ("\"id\":1", "\"id\":1,\"params\":{},\"params\":[]"),
    ] {
        posted(&server, list.replace(key, twice)).await;
    }
    let many: String = (0..10_000).map(|n| format!("\"k{n}\":{n},")).collect();
    posted(&server, list.replacen('{', &format!("{{{many}"), 1)).await;
    server.ends_well().await;
}

#[tokio::test]
async fn notifications_of_every_shape_change_nothing() {
    let server = Served::start(&[]).await;
    for value in of_every_kind() {
        for (method, params) in [
            ("notifications/cancelled", json!({ "requestId": value, "reason": value })),
            ("notifications/cancelled", value.clone()),
            ("notifications/progress", json!({ "progressToken": value, "progress": value, "total": value })),
            ("notifications/initialized", value.clone()),
            ("notifications/roots/list_changed", json!({ "_meta": value })),
            ("notifications/nothing", value.clone()),
            ("", value.clone()),
        ] {
            let notification = json!({ "jsonrpc": "2.0", "method": method, "params": params });
            let answer = posted(&server, notification.to_string()).await;
            assert!([202, 400].contains(&answer.status), "{notification}: {answer:?}");
        }
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": "execute_sales_query", "arguments": { "postgresql_query": "select 1" }, "_meta": { "progressToken": value } } });
        let answer = posted(&server, call.to_string()).await.json();
        assert_eq!(answer["result"]["structuredContent"]["rows"], json!([[1]]), "{call}: {answer}");
    }
    server.ends_well().await;
}

#[tokio::test]
async fn versions_that_do_not_exist() {
    let server = Served::start(&[]).await;
    let long = "9".repeat(50_000);
    let versions = ["", " ", "0", "1999-01-01", "2025-06-18", "2026-07-28", "9999-99-99", "latest", "\u{e9}", &long];
    for version in versions {
        let header = format!("MCP-Protocol-Version: {version}\r\n");
        let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }).to_string();
        let answer = server.ask(post(list, &header)).await;
        assert!([200, 400].contains(&answer.status), "{answer:?}");
        assert!(answer.json().is_object() && answer.body.len() < 200_000);
        let meta = json!({ "io.modelcontextprotocol/protocolVersion": version,
                           "io.modelcontextprotocol/clientCapabilities": {} });
        for method in ["tools/list", "server/discover", "ping"] {
            let asked = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": { "_meta": meta } });
            for headers in [header.clone(), format!("{header}Mcp-Method: {method}\r\n"), format!("{header}{header}")] {
                let answer = server.ask(post(asked.to_string(), &headers)).await;
                assert!([200, 400, 404].contains(&answer.status) && answer.json().is_object(), "{answer:?}");
            }
        }
        let hello = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": version, "capabilities": {}, "clientInfo": { "name": "c", "version": "1" } } });
        let answer = server.ask(post(hello.to_string(), "")).await.json();
        let agreed = answer["result"]["protocolVersion"].as_str().unwrap_or_else(|| panic!("{answer}"));
        assert!(["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"].contains(&agreed), "{version}: {agreed}");
        let answer = server.ask(post(hello.to_string(), "MCP-Protocol-Version: 2025-11-25\r\n")).await;
        assert_eq!(answer.refusal(), (400, -32600), "{version}");
    }
    server.ends_well().await;
}
