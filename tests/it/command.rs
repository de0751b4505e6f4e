//! The program as a person runs it: its commands, its sentences, and that nothing is left running.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{SEATTLE, TestDatabase, cluster};

/// The program, with nothing of this process's settings but its cache.
fn rowgate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rowgate"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("ROWGATE_") && name != "ROWGATE_CACHE_DIR" {
            command.env_remove(name);
        }
    }
    command
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn url_of(config: &tokio_postgres::Config, user: &str, database: &str) -> String {
    let password = String::from_utf8(config.get_password().unwrap().to_vec()).unwrap();
    format!("postgres://{user}:{password}@127.0.0.1:{}/{database}", cluster().cluster.port())
}

#[test]
fn serve_says_all_that_is_missing_or_wrong() {
    let output = rowgate().arg("serve").output().unwrap();
    assert!(!output.status.success());
    assert!(told(&output).contains("ROWGATE_DATABASE_URL is not set"), "{}", told(&output));

    let output = rowgate()
        .arg("serve")
        .env("ROWGATE_PORT", "x")
        .env("ROWGATE_POOL_SIZE", "0")
        .env("ROWGATE_LOGS", "1")
        .output()
        .unwrap();
    let told_all = told(&output);
    for sentence in [
        "ROWGATE_PORT: not a port",
        "ROWGATE_POOL_SIZE: not a number from 1 to 1000",
        "ROWGATE_LOGS: no such setting; did you mean ROWGATE_LOG?",
    ] {
        assert!(told_all.contains(sentence), "{told_all}");
    }

    // The header is not believed unless that was asked for.
    let output =
        rowgate().arg("serve").env("ROWGATE_DATABASE_URL", "postgres://rowgate_app@127.0.0.1:1/x").output().unwrap();
    assert!(told(&output).contains("ROWGATE_IDENTITY is not set"), "{}", told(&output));
}

#[tokio::test]
async fn migrate_seed_and_serve_work_from_the_environment_alone() {
    let database = TestDatabase::empty().await;
    let superuser = database.superuser().await;
    superuser.create_vector_extension().await.unwrap();
    let admin = url_of(&cluster().cluster.superuser(&database.name), "postgres", &database.name);
    let app = url_of(&database.app(), "rowgate_app", &database.name);
    let key = rowgate::identity::SigningKey::generate("k1").unwrap();

    let output = rowgate()
        .arg("migrate")
        .env("ROWGATE_ADMIN_DATABASE_URL", &admin)
        .env("ROWGATE_CLAIM_KEYS", &key)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", told(&output));
    assert!(
        told(&output).contains("7 migrations, 7 of them new") && told(&output).contains("1 claim keys accepted"),
        "{}",
        told(&output)
    );
    let output =
        rowgate().args(["seed", "--scale", "0.002"]).env("ROWGATE_ADMIN_DATABASE_URL", &admin).output().unwrap();
    assert!(output.status.success() && told(&output).contains(" rows in "), "{}", told(&output));
    let output =
        rowgate().args(["seed", "--scale", "0.002"]).env("ROWGATE_ADMIN_DATABASE_URL", &admin).output().unwrap();
    assert!(told(&output).contains("--reset replaces it"), "{}", told(&output));

    let mut served = rowgate()
        .arg("serve")
        .envs([
            ("ROWGATE_DATABASE_URL", app.as_str()),
            ("ROWGATE_CLAIM_KEYS", &key),
            ("ROWGATE_IDENTITY", "trusted-header"),
        ])
        .env("FUNCTIONS_CUSTOMHANDLER_PORT", "0")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(served.stdout.take().unwrap()).lines();
    let listening: Value = serde_json::from_str(&log.next().unwrap().unwrap()).unwrap();
    let warned: Value = serde_json::from_str(&log.next().unwrap().unwrap()).unwrap();
    assert_eq!(warned["level"], json!("WARN"));
    let answer = ask(&format!("http://{}/mcp", listening["address"].as_str().unwrap())).await;
    assert!(answer["rows"][0][0].as_i64() > Some(10), "{answer}");
    signal(served.id(), "TERM");
    assert!(served.wait().unwrap().success());
    let rest: Vec<String> = log.map(Result::unwrap).collect();
    for secret in [&key, &app, "select count"] {
        assert!(!rest.iter().any(|line| line.contains(secret)), "{rest:?}");
    }
}

async fn ask(url: &str) -> Value {
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "execute_sales_query", "arguments": { "postgresql_query": "select count(*) from orders" } } });
    let response = reqwest::Client::new()
        .post(url)
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("x-rls-user-id", SEATTLE)
        .body(call.to_string())
        .send()
        .await
        .unwrap();
    let answer: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    answer["result"]["structuredContent"].clone()
}

fn signal(pid: u32, signal: &str) {
    assert!(Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status().unwrap().success());
}

/// `rowgate dev` in a folder, ready to be asked.
struct Dev {
    child: Child,
    url: String,
}

impl Dev {
    fn start(folder: &Path, more: &[&str]) -> Self {
        let mut child = rowgate()
            .args(["dev", "--port", "0", "--scale", "0.002", "--data-dir"])
            .arg(folder)
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let url = lines.find_map(|line| line.trim().strip_prefix("MCP ").map(|url| url.trim().to_owned())).unwrap();
        let question = lines.find(|line| line.trim().starts_with("Ask ")).unwrap();
        assert!(question.len() > 30);
        // Read on, so that the program can go on writing.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url }
    }

    fn end(mut self, with: &str) {
        signal(self.child.id(), with);
        let status = self.child.wait().unwrap();
        assert!(with == "KILL" || status.success(), "{status}");
    }
}

/// Waits until no process has this folder on its command line.
fn nothing_runs_in(folder: &Path) {
    let needle = folder.to_str().unwrap().as_bytes().to_vec();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let running =
            fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read(entry.unwrap().path().join("cmdline")).ok());
        let running = running.filter(|line| line.windows(needle.len()).any(|part| part == needle)).count();
        if running == 0 {
            return;
        }
        assert!(Instant::now() < deadline, "{running} processes still run");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn folder() -> PathBuf {
    let folder = tempfile::Builder::new().prefix("rowgate-dev-").tempdir().unwrap().keep();
    // PostgreSQL's account passes through it when the tests run as root.
    std::os::unix::fs::PermissionsExt::set_mode(&mut fs::metadata(&folder).unwrap().permissions(), 0o755);
    fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    folder
}

#[tokio::test]
async fn dev_serves_ends_and_comes_back_with_its_data() {
    let folder = folder();
    let dev = Dev::start(&folder, &[]);
    let first = ask(&dev.url).await;
    assert!(first["rows"][0][0].as_i64() > Some(10), "{first}");

    let second = rowgate().args(["dev", "--port", "0", "--data-dir"]).arg(&folder).output().unwrap();
    assert!(told(&second).contains("is in use by another `rowgate dev`"), "{}", told(&second));

    dev.end("INT");
    nothing_runs_in(&folder);
    let dev = Dev::start(&folder, &[]);
    assert_eq!(ask(&dev.url).await, first);
    // Killed without a chance to clean up: PostgreSQL goes too, and the next start recovers at once.
    dev.end("KILL");
    let dev = Dev::start(&folder, &[]);
    assert_eq!(ask(&dev.url).await, first);
    dev.end("TERM");
    nothing_runs_in(&folder);
    let dev = Dev::start(&folder, &["--reset"]);
    assert_eq!(ask(&dev.url).await, first);
    dev.end("INT");
    nothing_runs_in(&folder);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_missing_python_names_the_way_out() {
    let folder = folder();
    let output = rowgate()
        .args(["dev", "--port", "0", "--data-dir"])
        .arg(folder.join("data"))
        .env("ROWGATE_CACHE_DIR", folder.join("cache"))
        .env("PATH", "")
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(
        told(&output).contains("python3 was not found") && told(&output).contains("ROWGATE_ADMIN_DATABASE_URL"),
        "{}",
        told(&output)
    );

    // A pip that can not reach anything, as without a network.
    let bin = folder.join("bin");
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("python3"), "#!/bin/sh\necho 'ERROR: No matching distribution found' >&2\nexit 1\n").unwrap();
    fs::set_permissions(bin.join("python3"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let output = rowgate()
        .args(["dev", "--port", "0", "--data-dir"])
        .arg(folder.join("data"))
        .env("ROWGATE_CACHE_DIR", folder.join("cache"))
        .env("PATH", format!("{}:/bin:/usr/bin", bin.display()))
        .output()
        .unwrap();
    let said = told(&output);
    assert!(said.contains("No matching distribution found") && said.contains("ROWGATE_ADMIN_DATABASE_URL"), "{said}");
    // Nothing half-done is left that a later start would take for an install.
    let left: Vec<_> = fs::read_dir(folder.join("cache")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["install.lock"]);
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn dev_works_on_a_server_of_ones_own() {
    let database = TestDatabase::empty().await;
    database.superuser().await.create_vector_extension().await.unwrap();
    // The login role belongs to the whole server of the tests, so its password stays what it is.
    let admin = url_of(&cluster().cluster.superuser(&database.name), "postgres", &database.name);
    let output =
        rowgate().args(["dev", "--port", "0", "--reset"]).env("ROWGATE_ADMIN_DATABASE_URL", &admin).output().unwrap();
    assert!(told(&output).contains("would throw away the data of a server of your own"), "{}", told(&output));
}

#[test]
fn mcp_config_is_what_vs_code_reads() {
    let output = rowgate().args(["mcp-config", "--caller", "seattle", "--caller", "head office"]).output().unwrap();
    let config: Value = serde_json::from_slice(&output.stdout).unwrap();
    let servers = config["servers"].as_object().unwrap();
    assert_eq!(servers.keys().collect::<Vec<_>>(), ["zava-retail-head-office", "zava-retail-seattle"]);
    assert_eq!(
        servers["zava-retail-seattle"],
        json!({ "type": "http", "url": "http://127.0.0.1:8000/mcp", "headers": { "x-rls-user-id": SEATTLE } })
    );
    let output = rowgate().args(["mcp-config", "--caller", "portland"]).output().unwrap();
    assert!(told(&output).contains("no caller's name has \"portland\" in it; there are: "), "{}", told(&output));

    let folder = folder();
    fs::create_dir(folder.join(".vscode")).unwrap();
    fs::write(folder.join(".vscode/mcp.json"), r#"{"servers":{"mine":{"type":"stdio"}},"inputs":[]}"#).unwrap();
    let output =
        rowgate().args(["mcp-config", "--write", "--caller", "seattle"]).current_dir(&folder).output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
    let mut written = String::new();
    fs::File::open(folder.join(".vscode/mcp.json")).unwrap().read_to_string(&mut written).unwrap();
    let written: Value = serde_json::from_str(&written).unwrap();
    assert_eq!((written["servers"]["mine"]["type"].as_str(), written["inputs"].clone()), (Some("stdio"), json!([])));
    assert!(written["servers"]["zava-retail-seattle"].is_object());
    fs::write(folder.join(".vscode/mcp.json"), "// mine\n{}").unwrap();
    let output = rowgate().args(["mcp-config", "--write"]).current_dir(&folder).output().unwrap();
    assert!(told(&output).contains("left alone"), "{}", told(&output));
    assert_eq!(fs::read_to_string(folder.join(".vscode/mcp.json")).unwrap(), "// mine\n{}");
    fs::remove_dir_all(folder).unwrap();
}

/// The managed-identity endpoint of an App Service, and Azure OpenAI, as far as `rowgate embed` speaks to them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embed_asks_azure_openai_as_the_managed_identity() {
    use axum::extract::RawQuery;
    use axum::http::HeaderMap;
    use axum::routing::{get, post};
    use axum::{Json, Router};

    let identity = async |RawQuery(query): RawQuery, headers: HeaderMap| {
        let query = query.unwrap_or_default();
        assert!(query.contains("resource=https%3A%2F%2Fcognitiveservices.azure.com"), "{query}");
        assert!(query.contains("client_id=0f1e2d3c"), "{query}");
        assert_eq!(headers["x-identity-header"], "proof");
        Json(json!({ "access_token": "t0ken", "expires_on": "4102444800", "resource": "x", "token_type": "Bearer" }))
    };
    let embeddings = async |headers: HeaderMap, Json(body): Json<Value>| {
        assert_eq!(headers["authorization"], "Bearer t0ken");
        assert_eq!((&body["model"], &body["dimensions"]), (&json!("small"), &json!(1536)));
        let texts = body["input"].as_array().unwrap().len();
        let vector = |n: usize| (0..1536).map(|d| ((n * 31 + d * 7) % 13) as f32 / 13.0 - 0.4).collect::<Vec<_>>();
        let data: Vec<_> = (0..texts).map(|n| json!({ "index": n, "embedding": vector(n) })).collect();
        Json(json!({ "data": data, "usage": { "prompt_tokens": texts * 20, "total_tokens": texts * 20 } }))
    };
    let azure = Router::new().route("/msi/token", get(identity)).route("/openai/v1/embeddings", post(embeddings));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move { axum::serve(listener, azure).await.unwrap() });

    let database = TestDatabase::create().await;
    let admin = url_of(&cluster().cluster.superuser(&database.name), "postgres", &database.name);
    let run = tokio::task::spawn_blocking(move || {
        rowgate()
            .arg("embed")
            .env("ROWGATE_ADMIN_DATABASE_URL", admin)
            .env("ROWGATE_EMBEDDER", "azure-openai")
            .env("ROWGATE_OPENAI_ENDPOINT", format!("http://{address}"))
            .env("ROWGATE_OPENAI_DEPLOYMENT", "small")
            .env("ROWGATE_MANAGED_IDENTITY_CLIENT_ID", "0f1e2d3c")
            .env("IDENTITY_ENDPOINT", format!("http://{address}/msi/token"))
            .env("IDENTITY_HEADER", "proof")
            .output()
            .unwrap()
    });
    let output = run.await.unwrap();
    let said = told(&output);
    assert!(said.contains("441 rows embedded with text-embedding-3-small, 8820 tokens"), "{said}");
    assert!(!said.contains("t0ken"), "{said}");
    let models = database
        .superuser()
        .await
        .query(
            "select model, count(*), min(dimensions) from retail.product_description_embeddings group by 1 order by 1",
            &[],
        )
        .await
        .unwrap();
    let models: Vec<(String, i64, i32)> = models.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    assert_eq!(models, [("all-minilm-l6-v2".to_owned(), 441, 384), ("text-embedding-3-small".to_owned(), 441, 1536)]);
    serving.abort();
}
