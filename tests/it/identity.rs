//! Principals as an administrator keeps them, groups and roles, issued tokens, and what HTTP says to whom it does not
//! let in.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rowgate::db::principals::{self, PrincipalError, Sees};
use rowgate::db::tokens;
use rowgate::domain::{Principal, TokenId};
use rowgate::identity::{IssuedToken, SigningKey, SigningKeys};
use serde_json::{Value, json};

use crate::support::{HEAD_OFFICE, NOBODY, SEATTLE, TestDatabase, TestServer};

const STORES: &str = "select array_agg(distinct store_id order by store_id) from orders";

fn principal(text: &str) -> Principal {
    Principal::parse(text).unwrap()
}

/// A server whose callers sign in through the platform, or with issued tokens, and the keys of those.
async fn platform_server() -> (TestServer, SigningKeys) {
    let keys = SigningKey::generate("t1").unwrap();
    let settings = [
        ("ROWGATE_IDENTITY", "easy-auth,issued-token"),
        ("WEBSITE_AUTH_ENABLED", "True"),
        ("ROWGATE_TOKEN_KEYS", keys.as_str()),
    ];
    (TestServer::start_with(&settings).await, SigningKeys::parse(&keys).unwrap())
}

/// A call of the query tool with these headers: status, headers and body.
async fn ask(server: &TestServer, headers: &[(&str, &str)], sql: &str) -> (u16, reqwest::header::HeaderMap, Value) {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "name": "execute_sales_query", "arguments": { "postgresql_query": sql } } });
    let request = headers.iter().fold(server.post(None), |request, (name, value)| request.header(*name, *value));
    let response = request.body(body.to_string()).send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    (status, headers, response.json().await.unwrap())
}

fn rows(body: &Value) -> &Value {
    &body["result"]["structuredContent"]["rows"]
}

fn sentence(body: &Value) -> &str {
    body["result"]["content"][0]["text"].as_str().unwrap()
}

/// The platform's headers for an object that is in groups and has roles.
fn signed_in(id: &str, claims: &[(&str, &str)]) -> Vec<(&'static str, String)> {
    let claims: Vec<_> = claims.iter().map(|(typ, val)| json!({ "typ": typ, "val": val })).collect();
    let principal = json!({ "auth_typ": "aad", "claims": claims, "name_typ": "name", "role_typ": "roles" });
    vec![
        ("x-ms-client-principal-id", id.to_owned()),
        ("x-ms-client-principal-idp", "aad".to_owned()),
        ("x-ms-client-principal", STANDARD.encode(principal.to_string())),
    ]
}

async fn ask_as(server: &TestServer, id: &str, claims: &[(&str, &str)], sql: &str) -> (u16, Value) {
    let headers = signed_in(id, claims);
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let (status, _, body) = ask(server, &headers, sql).await;
    (status, body)
}

#[tokio::test]
async fn a_caller_sees_what_any_of_its_groups_and_roles_may_see() {
    let (server, _) = platform_server().await;
    let mut admin = server.database.superuser().await;
    principals::add(&mut admin, &principal("group:g-1"), Some("North"), &Sees::Stores(vec![1, 2])).await.unwrap();
    principals::add(&mut admin, &principal("role:Auditor"), None, &Sees::AllStores).await.unwrap();
    principals::add(&mut admin, &principal("group:empty"), None, &Sees::Stores(vec![])).await.unwrap();

    let (_, body) = ask_as(&server, SEATTLE, &[], STORES).await;
    assert_eq!(rows(&body), &json!([[[1]]]));
    let (_, body) = ask_as(&server, SEATTLE, &[("groups", "g-1"), ("groups", "unheard-of")], STORES).await;
    assert_eq!(rows(&body), &json!([[[1, 2]]]));
    let (_, body) = ask_as(&server, NOBODY, &[("groups", "g-1")], STORES).await;
    assert_eq!(rows(&body), &json!([[[1, 2]]]));
    let (_, body) = ask_as(&server, NOBODY, &[("roles", "Auditor"), ("groups", "g-1")], STORES).await;
    assert_eq!(rows(&body), &json!([[[1, 2, 3, 4, 5, 6, 7, 8]]]));
    // Known, but with no store: an empty answer, which is the truth.
    let (_, body) = ask_as(&server, NOBODY, &[("groups", "empty")], "select count(*) from orders").await;
    assert_eq!(rows(&body), &json!([[0]]));
    for claims in [&[][..], &[("groups", "unheard-of")], &[("name", "group:g-1")], &[("groups", HEAD_OFFICE)]] {
        let (status, body) = ask_as(&server, NOBODY, claims, STORES).await;
        assert_eq!(status, 200);
        assert!(sentence(&body).starts_with("Unknown caller: nobody is registered under this id"), "{body}");
    }
    // 200 groups, as many as a token of Entra's can hold, still fit the claim.
    let many: Vec<_> = (0..200).map(|n| format!("00000000-0000-4000-8000-{n:012}")).collect();
    let many: Vec<_> = many.iter().map(|group| ("groups", group.as_str())).collect();
    let (_, body) = ask_as(&server, SEATTLE, &many, STORES).await;
    assert_eq!(rows(&body), &json!([[[1]]]));
}

#[tokio::test]
async fn principals_are_added_changed_listed_and_removed_and_all_of_it_is_noted() {
    let database = TestDatabase::create().await;
    let mut admin = database.superuser().await;
    let new = principal("5d3bc1f0-0000-4000-8000-aa4411ee7700");
    principals::add(&mut admin, &new, Some("Ada"), &Sees::Stores(vec![3, 1])).await.unwrap();
    let find = |all: Vec<principals::Registered>| all.into_iter().find(|known| known.principal == new.as_str());
    let known = find(principals::list(&mut admin).await.unwrap()).unwrap();
    assert_eq!((known.name.as_str(), known.sees), ("Ada", Sees::Stores(vec![1, 3])));

    principals::add(&mut admin, &new, None, &Sees::AllStores).await.unwrap();
    let known = find(principals::list(&mut admin).await.unwrap()).unwrap();
    assert_eq!((known.name.as_str(), known.sees), ("Ada", Sees::AllStores));

    // A store that there is not changes nothing at all.
    let wrong = principals::add(&mut admin, &new, Some("Eve"), &Sees::Stores(vec![1, 99])).await.unwrap_err();
    assert!(wrong.to_string().starts_with("there is no store 99; the stores are 1, 2,"), "{wrong}");
    assert_eq!(find(principals::list(&mut admin).await.unwrap()).unwrap().sees, Sees::AllStores);

    principals::remove(&mut admin, &new).await.unwrap();
    assert!(matches!(principals::remove(&mut admin, &new).await, Err(PrincipalError::Unknown(_))));
    assert!(find(principals::list(&mut admin).await.unwrap()).is_none());

    let changes = principals::changes(&mut admin, 7).await.unwrap();
    let told: Vec<_> = changes.iter().rev().map(|c| format!("{} {}", c.action, c.subject)).collect();
    assert_eq!(
        told,
        [
            "insert principals",
            "insert principal_stores",
            "insert principal_stores",
            "update principals",
            "delete principal_stores",
            "delete principal_stores",
            "delete principals"
        ]
    );
    assert!(changes.iter().all(|change| change.by == "postgres"));
    assert!(changes[0].before.as_ref().unwrap().contains("Ada") && changes[0].after.is_none());
    let keys = admin
        .query_one("select string_agg(after::text, '') from rowgate.changes where subject = 'claim_keys'", &[])
        .await
        .unwrap();
    let keys: String = keys.get(0);
    assert!(keys.contains("key_id") && !keys.contains("pad"), "{keys}");
}

#[tokio::test]
async fn an_issued_token_works_until_it_is_revoked() {
    let (server, keys) = platform_server().await;
    let mut admin = server.database.superuser().await;
    let day = Duration::from_secs(86_400);
    let issue = |whom: &str| IssuedToken::issue(keys.newest(), &principal(whom), day).unwrap();
    let with = async |token: &IssuedToken| {
        let bearer = format!("Bearer {}", token.expose());
        ask(&server, &[("authorization", &bearer)], STORES).await
    };

    let token = issue(SEATTLE);
    // Signed by us, but this database has never heard of it.
    let (status, headers, body) = with(&token).await;
    assert_eq!(status, 401, "{body}");
    assert!(headers["www-authenticate"].to_str().unwrap().starts_with("Bearer error=\"invalid_token\""));
    tokens::register(&mut admin, &principal(SEATTLE), &token).await.unwrap();
    let (status, _, body) = with(&token).await;
    assert_eq!((status, rows(&body)), (200, &json!([[[1]]])));

    // Registered for another than it was signed for.
    let other = issue(HEAD_OFFICE);
    tokens::register(&mut admin, &principal(SEATTLE), &other).await.unwrap();
    assert_eq!(with(&other).await.0, 401);
    // For nobody.
    assert!(tokens::register(&mut admin, &principal(NOBODY), &issue(NOBODY)).await.is_err());

    let listed = tokens::list(&mut admin).await.unwrap();
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().any(|known| known.id == token.id().as_str() && known.revoked.is_none()));
    tokens::revoke(&mut admin, token.id()).await.unwrap();
    let (status, _, body) = with(&token).await;
    assert_eq!(status, 401);
    assert!(sentence(&body).starts_with("The token was revoked"), "{body}");
    tokens::revoke(&mut admin, token.id()).await.unwrap();
    let unknown = tokens::revoke(&mut admin, &TokenId::parse("0123456789abcdef").unwrap()).await.unwrap_err();
    assert_eq!(unknown.to_string(), "there is no token 0123456789abcdef; `rowgate token list` shows them");

    // A removed principal takes its tokens along.
    let third = issue(SEATTLE);
    tokens::register(&mut admin, &principal(SEATTLE), &third).await.unwrap();
    assert_eq!(with(&third).await.0, 200);
    principals::remove(&mut admin, &principal(SEATTLE)).await.unwrap();
    assert_eq!(with(&third).await.0, 401);

    // A key that is not the server's.
    let stray = SigningKey::parse(&SigningKey::generate("t1").unwrap()).unwrap();
    let forged = IssuedToken::issue(&stray, &principal(HEAD_OFFICE), day).unwrap();
    let (status, _, body) = with(&forged).await;
    assert_eq!((status, &body["error"]), (401, &json!("invalid_token")));
}

#[tokio::test]
async fn the_revocation_costs_no_round_trip() {
    let proxy = crate::support::CountingProxy::to(crate::support::cluster().cluster.port()).await;
    let database = TestDatabase::create().await;
    let keys = SigningKey::generate("t1").unwrap();
    let mut settings =
        database.settings(&[("ROWGATE_IDENTITY", "issued-token"), ("ROWGATE_TOKEN_KEYS", keys.as_str())]);
    let mut app = tokio_postgres::Config::new();
    app.host("127.0.0.1").port(proxy.port).user("rowgate_app").dbname(&database.name);
    app.password(&crate::support::cluster().app_password);
    settings.database.app = Some(app);
    let server = TestServer::serve(database, settings).await;
    let keys = SigningKeys::parse(&keys).unwrap();
    let token = IssuedToken::issue(keys.newest(), &principal(SEATTLE), Duration::from_secs(3600)).unwrap();
    tokens::register(&mut server.database.superuser().await, &principal(SEATTLE), &token).await.unwrap();
    let bearer = format!("Bearer {}", token.expose());
    for _ in 0..2 {
        assert_eq!(ask(&server, &[("authorization", &bearer)], STORES).await.0, 200);
    }
    proxy.round_trips();
    assert_eq!(ask(&server, &[("authorization", &bearer)], STORES).await.0, 200);
    assert_eq!(proxy.round_trips(), 1);
}

#[tokio::test]
async fn the_platforms_headers_count_for_nothing_while_easy_auth_is_off() {
    for (settings, said) in [
        (&[("ROWGATE_IDENTITY", "easy-auth")][..], "invalid_token"),
        (&[("ROWGATE_IDENTITY", "easy-auth"), ("WEBSITE_AUTH_ENABLED", "False")], "invalid_token"),
    ] {
        let server = TestServer::start_with(settings).await;
        let (status, body) = ask_as(&server, HEAD_OFFICE, &[], STORES).await;
        assert_eq!((status, &body["error"]), (401, &json!(said)), "{body}");
    }
    // Nor where another way is set.
    let server = TestServer::start().await;
    let (_, body) = ask_as(&server, HEAD_OFFICE, &[], STORES).await;
    assert!(sentence(&body).starts_with("No caller"), "{body}");
    let (server, _) = platform_server().await;
    let (status, headers, _) = ask(&server, &[("x-rls-user-id", HEAD_OFFICE)], STORES).await;
    assert_eq!((status, headers["www-authenticate"].to_str().unwrap()), (401, "Bearer"));
}

#[tokio::test]
async fn the_sample_leaves_principals_of_others_alone() {
    let database = TestDatabase::create().await;
    let mut admin = database.superuser().await;
    principals::add(&mut admin, &principal("somebody"), None, &Sees::Stores(vec![2])).await.unwrap();
    let scale = rowgate::retail::Scale::parse("0.002").unwrap();
    rowgate::retail::seed(&mut admin, scale, true, &indicatif::ProgressBar::hidden()).await.unwrap();
    let known = principals::list(&mut admin).await.unwrap();
    assert!(known.iter().any(|known| known.principal == "somebody" && known.sees == Sees::Stores(vec![2])));
    assert_eq!(known.len(), 10);
}
