//! The deployed folder under the Functions host, with the environment that infra/main.bicep gives it: secrets and tokens
//! from a stand-in of Azure, PostgreSQL behind TLS and a pooler, callers by Easy Auth or Entra. The folder is what
//! `ROWGATE_TEST_PACKAGE` names, or else made of this build.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use indicatif::ProgressBar;
use rmcp::model::CallToolRequestParams;
use rmcp::service::{RoleClient, RunningService, ServiceExt};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rowgate::app::{self, Azure};
use rowgate::config::Settings;
use rowgate::db::principals::{self, Sees};
use rowgate::domain::{Principal, Profile};
use rowgate::{indexing, retail};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::azure::{APP_ID, CLIENT_ID, Flaw, LoopbackAzure, OPENAI_HOST, TENANT, VAULT_HOST, VaultFault};
use crate::support::functions_host::{
    EasyAuth, FunctionsHost, HostOptions, Principal as SignedIn, Severity, rowgate_package,
};
use crate::support::{Bouncing, HEAD_OFFICE, PgBouncer, SEATTLE, TestDatabase, cluster};

const POSTGRESQL: &str = "https://ossrdbms-aad.database.windows.net";
const HOSTNAME: &str = "func-test.azurewebsites.net";

/// Everything that a deployment has.
struct Deployment {
    azure: LoopbackAzure,
    database: TestDatabase,
    bouncer: PgBouncer,
    program: PathBuf,
    settings: Vec<(String, String)>,
    _package: Option<TempDir>,
    package: PathBuf,
}

impl Deployment {
    /// `None` without a pooler that speaks TLS.
    async fn prepare(more: &[(&str, &str)]) -> Option<Self> {
        let program = PgBouncer::installed()?;
        let azure = LoopbackAzure::start().await;
        let database = TestDatabase::create().await;
        azure.key_vault.set("rowgate-claim-keys", &cluster().key_text);
        azure.identity.say(POSTGRESQL, "first-token");
        let certificate = azure.certificates.files(&["localhost"], Flaw::None);
        let bouncer = PgBouncer::start(&program, &database, &certificate, Bouncing::Plain, "first-token", 3);
        let url = format!("postgres://rowgate_app@localhost:{}/{}", bouncer.port, database.name);
        let own = [
            ("ROWGATE_KEY_VAULT", format!("https://{VAULT_HOST}")),
            ("ROWGATE_CLAIM_KEYS_SECRET", "rowgate-claim-keys".to_owned()),
            ("ROWGATE_DATABASE_URL", url),
            ("ROWGATE_DATABASE_LOGIN", "entra".to_owned()),
            ("ROWGATE_DATABASE_TLS", "on".to_owned()),
            ("ROWGATE_IDENTITY", "easy-auth".to_owned()),
            ("ROWGATE_MANAGED_IDENTITY_CLIENT_ID", CLIENT_ID.to_owned()),
            ("ROWGATE_POOL_SIZE", "2".to_owned()),
            ("ROWGATE_EMBEDDER", "azure-openai".to_owned()),
            ("ROWGATE_OPENAI_ENDPOINT", format!("https://{OPENAI_HOST}")),
            ("ROWGATE_OPENAI_DEPLOYMENT", "text-embedding-3-small".to_owned()),
            ("ROWGATE_EMBEDDING_MODEL", "text-embedding-3-small".to_owned()),
        ];
        let mut settings: Vec<_> = own.map(|(name, value)| (name.to_owned(), value)).into();
        settings.retain(|(name, _)| more.iter().all(|(given, _)| given != name));
        settings.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let bicep = std::fs::read_to_string("infra/main.bicep").unwrap();
        for (name, _) in &settings {
            assert!(bicep.contains(&format!("  {name}: ")), "infra/main.bicep does not set {name}");
        }
        settings.extend([
            ("AzureWebJobsDisableHomepage".to_owned(), "true".to_owned()),
            ("WEBSITE_HOSTNAME".to_owned(), HOSTNAME.to_owned()),
        ]);
        settings.extend(azure.environment());
        let (made, package) = match std::env::var_os("ROWGATE_TEST_PACKAGE") {
            Some(folder) => (None, PathBuf::from(folder)),
            None => {
                let made = rowgate_package();
                let path = made.path().to_owned();
                (Some(made), path)
            }
        };
        Some(Self { azure, database, bouncer, program, settings, _package: made, package })
    }

    async fn start(&self, easy_auth: EasyAuth) -> FunctionsHost {
        let options = HostOptions { easy_auth, ..HostOptions::default() };
        FunctionsHost::start_with(&self.package, &self.settings, options).await.unwrap()
    }

    /// Vectors of the deployment's model.
    async fn embed(&self) {
        let settings = [
            ("ROWGATE_EMBEDDER", "azure-openai".to_owned()),
            ("ROWGATE_OPENAI_ENDPOINT", self.azure.plain_openai()),
            ("ROWGATE_OPENAI_KEY", self.azure.openai.key.clone()),
        ];
        let settings = Settings::read(settings.map(|(name, value)| (name.to_owned(), value)).into()).unwrap();
        let profile = Profile::parse(retail::PROFILE).unwrap();
        let embedder = app::embedder(&settings, &profile, &Azure::new(&settings)).unwrap().unwrap();
        let mut admin = self.database.superuser().await;
        indexing::index_for(&mut admin, &profile, &*embedder, false, &ProgressBar::hidden()).await.unwrap();
    }
}

fn people() -> EasyAuth {
    let easy_auth = EasyAuth::on();
    for (token, object_id, claims) in [
        ("seattle", SEATTLE, vec![]),
        ("office", HEAD_OFFICE, vec![]),
        ("auditor", "7d0a7a7a-0000-4000-8000-000000000001", vec![("groups".to_owned(), "auditors".to_owned())]),
        ("stranger", "7d0a7a7a-0000-4000-8000-000000000002", vec![]),
    ] {
        easy_auth
            .know(token, SignedIn { object_id: object_id.to_owned(), name: format!("{token}@example.com"), claims });
    }
    easy_auth
}

async fn client(host: &FunctionsHost, token: &str) -> RunningService<RoleClient, ()> {
    let headers = HashMap::from([("host".parse().unwrap(), HOSTNAME.parse().unwrap())]);
    let config = StreamableHttpClientTransportConfig::with_uri(format!("{}/mcp", host.url()))
        .auth_header(token)
        .custom_headers(headers);
    ().serve(StreamableHttpClientTransport::from_config(config)).await.unwrap()
}

async fn call(client: &RunningService<RoleClient, ()>, tool: &'static str, arguments: Value) -> Value {
    let call = CallToolRequestParams::new(tool).with_arguments(arguments.as_object().unwrap().clone());
    let result = client.call_tool(call).await.unwrap();
    assert_ne!(result.is_error, Some(true), "{result:?}");
    result.structured_content.unwrap()
}

/// One call of the query tool, as HTTP.
async fn ask(host: &FunctionsHost, token: &str, sql: &str) -> reqwest::Response {
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "execute_sales_query", "arguments": { "postgresql_query": sql } } });
    let request = reqwest::Client::new()
        .post(format!("{}/mcp", host.url()))
        .header("host", HOSTNAME)
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .bearer_auth(token);
    request.body(call.to_string()).send().await.unwrap()
}

async fn until_ok(host: &FunctionsHost, token: &str, sql: &str) -> Value {
    for _ in 0..600 {
        let response = ask(host, token, sql).await;
        if response.status() == 200 {
            let body: Value = response.json().await.unwrap();
            if body["result"]["isError"] != json!(true) {
                return body;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it never came back: {:?}", host.log());
}

const STORES: &str = "select array_agg(distinct store_id order by store_id) from orders";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_client_gets_the_right_rows_from_the_deployed_folder() {
    let Some(deployment) = Deployment::prepare(&[]).await else { return };
    deployment.embed().await;
    let group = Principal::parse("group:auditors").unwrap();
    let mut admin = deployment.database.superuser().await;
    principals::add(&mut admin, &group, Some("Auditors"), &Sees::Stores(vec![2, 3])).await.unwrap();
    let host = deployment.start(people()).await;

    for (token, stores) in
        [("seattle", json!([1])), ("office", json!([1, 2, 3, 4, 5, 6, 7, 8])), ("auditor", json!([2, 3]))]
    {
        let client = client(&host, token).await;
        let tools = client.list_all_tools().await.unwrap();
        assert_eq!(tools.len(), 5);
        let answer = call(&client, "execute_sales_query", json!({ "postgresql_query": STORES })).await;
        assert_eq!(answer["rows"], json!([[stores]]), "{token}");
        let tables = json!({ "table_names": ["retail.orders"] });
        let schemas = call(&client, "get_multiple_table_schemas", tables).await;
        assert!(schemas.to_string().contains("store_id"), "{schemas}");
        let date = call(&client, "get_current_utc_date", json!({})).await;
        assert!(date.to_string().contains("20"), "{date}");
        let similar = call(&client, "find_similar_products", json!({ "product": "PL-FIT-01" })).await;
        assert_eq!(similar["by"], "meaning", "{similar}");
        let found = call(&client, "semantic_search_products", json!({ "query_description": "PL-FIT-01" })).await;
        assert_eq!((&found["by"], found["rows"].as_array().unwrap().is_empty()), (&json!("meaning"), false), "{found}");
        client.cancel().await.unwrap();
    }
    let body: Value = ask(&host, "stranger", STORES).await.json().await.unwrap();
    assert!(body["result"]["content"][0]["text"].as_str().unwrap().starts_with("Unknown caller"), "{body}");
    assert_eq!(ask(&host, "nobody", STORES).await.status(), 401);

    // Fetched once, and over TLS to their real names.
    assert_eq!(deployment.azure.key_vault.reads("rowgate-claim-keys"), 1);
    let hosts = deployment.azure.tunnelled();
    assert!(
        hosts.iter().all(|host| [VAULT_HOST, OPENAI_HOST].iter().any(|known| host.starts_with(known))),
        "{hosts:?}"
    );

    // The handler says nothing that the host takes for a failure, and nothing secret.
    let log = host.log();
    assert!(log.iter().all(|line| line.severity == Severity::Information), "{log:?}");
    let all: String = log.iter().map(|line| line.text.as_str()).collect();
    let mut secrets = vec!["first-token".to_owned(), cluster().key_text.clone()];
    secrets.extend(deployment.azure.identity.issued(crate::support::azure::KEY_VAULT));
    assert!(secrets.iter().all(|secret| !all.contains(secret.as_str())), "{all}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_that_comes_twice_a_killed_handler_and_a_token_that_ends_harm_nobody() {
    let Some(mut deployment) = Deployment::prepare(&[]).await else { return };
    let host = deployment.start(people()).await;
    host.deliver_twice(true);
    let body = until_ok(&host, "seattle", STORES).await;
    assert_eq!(body["result"]["structuredContent"]["rows"], json!([[[1]]]));
    host.deliver_twice(false);

    // The password that was good is not any more, as when a token has ended: the next connection has a fresh one.
    deployment.azure.identity.say(POSTGRESQL, "second-token");
    let port = deployment.bouncer.port;
    let certificate = deployment.azure.certificates.files(&["localhost"], Flaw::None);
    deployment.bouncer.stop();
    let response = ask(&host, "seattle", STORES).await;
    assert_eq!((response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()), (503, "3"));
    assert!(response.text().await.unwrap().contains("The database can not be reached right now"));
    let again = |password| {
        PgBouncer::start_on(port, &deployment.program, &deployment.database, &certificate, Bouncing::Plain, password, 3)
    };
    let bouncer = again("second-token");
    assert_eq!(ask(&host, "seattle", STORES).await.status(), 200, "{:?}", host.log());

    // Killed, as the platform does: the host starts another, which knows nothing and needs nothing.
    let pid = host.handler_pid().unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    host.settled(2).await;
    let body = until_ok(&host, "office", STORES).await;
    assert_eq!(body["result"]["structuredContent"]["rows"][0][0].as_array().unwrap().len(), 8);

    // Told to end, it ends by itself with what it has begun.
    let slow = "select count(*) from generate_series(1, 3000000) a";
    let pid = rustix::process::Pid::from_raw(i32::try_from(host.handler_pid().unwrap()).unwrap()).unwrap();
    let (answered, ()) = tokio::join!(ask(&host, "seattle", slow), async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    });
    assert_eq!(answered.status(), 200, "{:?}", host.log());
    assert!(answered.text().await.unwrap().contains("[[3000000]]"));
    drop(bouncer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_secrets_it_lists_its_tools_and_says_when_to_come_back() {
    let Some(deployment) = Deployment::prepare(&[]).await else { return };
    deployment.azure.key_vault.faults.always(VaultFault::Forbidden);
    let host = deployment.start(people()).await;
    let client = client(&host, "seattle").await;
    assert_eq!(client.list_all_tools().await.unwrap().len(), 5);
    let response = ask(&host, "seattle", STORES).await;
    assert_eq!((response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()), (503, "5"));
    let told = || host.log().iter().map(|line| format!("{}\n", line.text)).collect::<String>();
    while !told().contains("\"call\"") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let log = told();
    assert!(log.contains("give it the role Key Vault Secrets User") && log.contains("ForbiddenByRbac"), "{log}");
    assert!(!log.contains("subscriptions/"), "{log}");
    deployment.azure.key_vault.faults.end();
    until_ok(&host, "seattle", STORES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entras_tokens_are_checked_by_the_handler_itself() {
    let audience = format!("{APP_ID},api://{APP_ID}");
    let settings = [
        ("ROWGATE_IDENTITY", "entra,issued-token"),
        ("ROWGATE_ENTRA_TENANT", TENANT),
        ("ROWGATE_ENTRA_AUDIENCE", audience.as_str()),
        ("ROWGATE_TOKEN_KEYS_SECRET", "rowgate-token-keys"),
    ];
    let Some(deployment) = Deployment::prepare(&settings).await else { return };
    let host = deployment.start(EasyAuth::off()).await;

    // Nobody: told where to sign in, and what for.
    let url = format!("{}/mcp", host.url());
    let http = reqwest::Client::new();
    let unknown = http.post(&url).header("host", HOSTNAME).body("{}").send().await.unwrap();
    assert_eq!(unknown.status(), 401);
    let challenge = unknown.headers()["www-authenticate"].to_str().unwrap().to_owned();
    let metadata_url = format!("https://{HOSTNAME}/.well-known/oauth-protected-resource/mcp");
    assert_eq!(
        challenge,
        format!("Bearer resource_metadata=\"{metadata_url}\", scope=\"api://{APP_ID}/user_impersonation\"")
    );
    for path in ["/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource"] {
        let url = format!("{}{path}", host.url());
        let metadata: Value = http.get(url).header("host", HOSTNAME).send().await.unwrap().json().await.unwrap();
        assert_eq!(metadata["resource"], format!("https://{HOSTNAME}/mcp"));
        assert_eq!(
            metadata["authorization_servers"],
            json!([format!("https://login.microsoftonline.com/{TENANT}/v2.0")])
        );
    }

    let token = |claims: Value| deployment.azure.entra_token(claims);
    let good = token(json!({ "oid": SEATTLE, "scp": "user_impersonation" }));
    let body = until_ok(&host, &good, STORES).await;
    assert_eq!(body["result"]["structuredContent"]["rows"], json!([[[1]]]));
    let client = client(&host, &good).await;
    let answer = call(&client, "execute_sales_query", json!({ "postgresql_query": STORES })).await;
    assert_eq!(answer["rows"], json!([[[1]]]));

    let refused = async |token: &str| {
        let response = ask(&host, token, STORES).await;
        let challenge = response.headers().get("www-authenticate").map(|h| h.to_str().unwrap().to_owned());
        (response.status().as_u16(), challenge.unwrap_or_default())
    };
    let other = token(json!({ "oid": HEAD_OFFICE, "scp": "user_impersonation", "aud": "api://somebody-else" }));
    let (status, challenge) = refused(&other).await;
    assert!(status == 401 && challenge.contains("error=\"invalid_token\""), "{status} {challenge}");
    let (status, challenge) = refused(&token(json!({ "oid": HEAD_OFFICE, "scp": "openid" }))).await;
    assert!(status == 403 && challenge.contains("error=\"insufficient_scope\""), "{status} {challenge}");
    assert!(challenge.contains(&metadata_url), "{challenge}");
    let forged = deployment.azure.entra.forged_token(json!({ "oid": HEAD_OFFICE, "scp": "user_impersonation" }));
    assert_eq!(refused(&forged).await.0, 401);
    // The platform's headers and the development header are words of the caller's own here.
    let spoofed = http
        .post(&url)
        .header("host", HOSTNAME)
        .header("x-ms-client-principal-id", HEAD_OFFICE)
        .header("x-ms-client-principal-idp", "aad")
        .header("x-rls-user-id", HEAD_OFFICE);
    assert_eq!(spoofed.body("{}").send().await.unwrap().status(), 401);

    // New keys of Entra's are fetched when a token has one.
    deployment.azure.entra.rotate();
    let newer = token(json!({ "oid": SEATTLE, "scp": "user_impersonation" }));
    until_ok(&host, &newer, STORES).await;

    // An issued token, whose keys the vault has only now.
    let keys = rowgate::identity::SigningKey::generate("t1").unwrap();
    let key = rowgate::identity::SigningKey::parse(&keys).unwrap();
    let seattle = Principal::parse(SEATTLE).unwrap();
    let issued = rowgate::identity::IssuedToken::issue(&key, &seattle, Duration::from_secs(3600)).unwrap();
    let response = ask(&host, issued.expose(), STORES).await;
    assert_eq!((response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()), (503, "5"));
    deployment.azure.key_vault.set("rowgate-token-keys", &keys);
    let mut admin = deployment.database.superuser().await;
    rowgate::db::tokens::register(&mut admin, &seattle, &issued).await.unwrap();
    let body = until_ok(&host, issued.expose(), STORES).await;
    assert_eq!(body["result"]["structuredContent"]["rows"], json!([[[1]]]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_signed_in_to_the_azure_cli_can_embed_from_a_laptop() {
    let azure = LoopbackAzure::start().await;
    let database = TestDatabase::create().await;
    let folder = tempfile::tempdir().unwrap();
    let token = azure.identity.issue(crate::support::azure::COGNITIVE_SERVICES);
    let answer = json!({ "accessToken": token, "expires_on": 4_000_000_000_u64, "tokenType": "Bearer" });
    let az = folder.path().join("az");
    std::fs::write(
        &az,
        format!("#!/bin/sh\ntest \"$4\" = {} && echo '{answer}'\n", crate::support::azure::COGNITIVE_SERVICES),
    )
    .unwrap();
    std::fs::set_permissions(&az, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let mut command = tokio::process::Command::new("scripts/with-azure-cli-identity");
    command
        .args([env!("CARGO_BIN_EXE_rowgate"), "embed"])
        .env("PATH", path)
        .env("ROWGATE_ADMIN_DATABASE_URL", database.admin_url())
        .env("ROWGATE_EMBEDDER", "azure-openai")
        .env("ROWGATE_OPENAI_ENDPOINT", azure.plain_openai());
    // What the tests themselves are told is no setting of the program's.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ROWGATE_TEST_")) {
        command.env_remove(name);
    }
    let output = command.output().await.unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("rows embedded with text-embedding-3-small"), "{told}");
}
