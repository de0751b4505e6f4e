//! A whole server in this process, on a port of its own.

use std::path::Path;
use std::sync::Arc;

use rowgate::app::{self, App, Azure};
use rowgate::config::Settings;
use rowgate::embedding::Embedder;
use rowgate::retail;
use rowgate::telemetry::Telemetry;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::functions_host::FunctionsHost;
use super::{TestDatabase, cluster};

pub struct TestServer {
    pub database: TestDatabase,
    pub url: String,
    pub client: reqwest::Client,
    end: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
    host: Option<FunctionsHost>,
}

/// What a tool answered.
#[derive(Debug)]
pub struct Reply {
    pub is_error: bool,
    pub text: String,
    pub structured: Value,
}

impl TestServer {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// In this process, or as the package that `ROWGATE_TEST_PACKAGE` names, behind the Functions host.
    pub async fn start_with(settings: &[(&str, &str)]) -> Self {
        let database = TestDatabase::create().await;
        if let Some(package) = std::env::var_os("ROWGATE_TEST_PACKAGE") {
            return Self::start_package(database, Path::new(&package), settings).await;
        }
        let settings = database.settings(settings);
        Self::serve(database, settings).await
    }

    async fn start_package(database: TestDatabase, package: &Path, settings: &[(&str, &str)]) -> Self {
        let own = [
            ("ROWGATE_DATABASE_URL", database.url()),
            ("ROWGATE_CLAIM_KEYS", cluster().key_text.clone()),
            ("ROWGATE_IDENTITY", "trusted-header".to_owned()),
            // Nobody answers there: what is tried like this does not search.
            ("ROWGATE_EMBEDDER", "azure-openai".to_owned()),
            ("ROWGATE_OPENAI_ENDPOINT", "http://127.0.0.1:9".to_owned()),
        ];
        let mut environment: Vec<_> = own.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        environment.retain(|(name, _)| settings.iter().all(|(given, _)| given != name));
        environment.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        environment.push(("AzureWebJobsDisableHomepage".to_owned(), "true".to_owned()));
        let host = FunctionsHost::start(package, &environment).await.unwrap();
        let (url, client) = (host.url(), reqwest::Client::new());
        Self { database, url, client, end: None, serving: None, host: Some(host) }
    }

    pub async fn serve(database: TestDatabase, settings: Settings) -> Self {
        Self::serve_with(database, settings, Some(cluster().embedder.clone() as Arc<dyn Embedder>)).await
    }

    pub async fn serve_with(database: TestDatabase, settings: Settings, embedder: Option<Arc<dyn Embedder>>) -> Self {
        let profile = app::profile(&settings, retail::PROFILE).unwrap();
        let azure = Azure::new(&settings);
        Self::run(database, App::build(settings, profile, embedder, &azure, &Telemetry::default()).unwrap()).await
    }

    pub async fn run(database: TestDatabase, app: App) -> Self {
        let listener = app.listen().await.unwrap();
        let url = format!("http://{}", listener.address());
        let (end, ended) = oneshot::channel::<()>();
        let serving = tokio::spawn(app.serve(listener, async {
            let _ = ended.await;
        }));
        Self { database, url, client: reqwest::Client::new(), end: Some(end), serving: Some(serving), host: None }
    }

    /// Tells the server to end and waits until it has.
    pub async fn stop(&mut self) {
        drop(self.end.take());
        drop(self.host.take());
        if let Some(serving) = self.serving.take() {
            serving.await.unwrap();
        }
    }

    pub fn post(&self, caller: Option<&str>) -> reqwest::RequestBuilder {
        let request = self
            .client
            .post(format!("{}/mcp", self.url))
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream");
        match caller {
            Some(caller) => request.header("x-rls-user-id", caller),
            None => request,
        }
    }

    /// One request of the revision that VS Code speaks.
    pub async fn request(&self, caller: Option<&str>, method: &str, params: Value) -> Value {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let response = self.post(caller).body(body.to_string()).send().await.unwrap();
        serde_json::from_str(&response.text().await.unwrap()).unwrap()
    }

    pub async fn call(&self, caller: Option<&str>, tool: &str, arguments: Value) -> Reply {
        let params = json!({ "name": tool, "arguments": arguments });
        let answer = self.request(caller, "tools/call", params).await;
        let result = &answer["result"];
        assert!(result.is_object(), "{answer}");
        Reply {
            is_error: result["isError"].as_bool().unwrap_or_default(),
            text: result["content"][0]["text"].as_str().unwrap_or_default().to_owned(),
            structured: result["structuredContent"].clone(),
        }
    }

    pub async fn sql(&self, caller: &str, sql: &str) -> Reply {
        self.call(Some(caller), "execute_sales_query", json!({ "postgresql_query": sql })).await
    }
}

impl Reply {
    /// The answer of a call that worked.
    pub fn ok(self) -> Value {
        assert!(!self.is_error, "{}", self.text);
        self.structured
    }

    /// The sentence of a call that did not.
    pub fn error(self) -> String {
        assert!(self.is_error, "{}", self.structured);
        assert_eq!(self.structured, Value::Null);
        self.text
    }
}
