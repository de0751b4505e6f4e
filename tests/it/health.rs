//! GET `/`, `/healthz` and `/readyz`.

use crate::support::{TestDatabase, TestServer};

#[tokio::test]
async fn a_browser_gets_a_page_and_anything_else_a_line() {
    let server = TestServer::start().await;
    let page = server.client.get(&server.url).header("accept", "text/html,*/*").send().await.unwrap();
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    assert_eq!(page.headers()["x-content-type-options"], "nosniff");
    assert!(page.text().await.unwrap().contains("<h1>Rowgate</h1>"));
    let line = server.client.get(&server.url).send().await.unwrap();
    assert_eq!(line.text().await.unwrap(), "Rowgate: an MCP endpoint for PostgreSQL. POST to /mcp.\n");
    assert_eq!(server.client.get(format!("{}/nothing", server.url)).send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn health_and_readiness_are_two_things() {
    let server = TestServer::start().await;
    let get = async |server: &TestServer, path: &str| {
        let response = server.client.get(format!("{}{path}", server.url)).send().await.unwrap();
        (response.status().as_u16(), response.headers().contains_key("retry-after"), response.text().await.unwrap())
    };
    assert_eq!(get(&server, "/healthz").await.0, 200);
    assert_eq!(get(&server, "/readyz").await, (200, false, "{\"status\":\"ready\"}".to_owned()));

    let unprepared = TestDatabase::empty().await;
    let settings = unprepared.settings(&[]);
    let server = TestServer::serve(unprepared, settings).await;
    assert_eq!(get(&server, "/healthz").await.0, 200);
    assert_eq!(get(&server, "/readyz").await.0, 503);

    let database = TestDatabase::create().await;
    let mut settings = database.settings(&[]);
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    settings.database.app = format!("postgres://rowgate_app:secret@127.0.0.1:{nowhere}/x").parse().ok();
    let server = TestServer::serve(database, settings).await;
    let (status, retry, body) = get(&server, "/readyz").await;
    assert_eq!((status, retry), (503, true));
    assert!(body.contains("can not be reached") && !body.contains("secret"), "{body}");
}
