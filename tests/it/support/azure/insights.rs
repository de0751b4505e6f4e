//! Application Insights' ingestion (v2.1/track): takes gzipped envelopes from whoever shows a token for Azure Monitor.
//! <https://learn.microsoft.com/azure/azure-monitor/app/azure-ad-authentication>

use std::future::pending;
use std::io::Read;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use axum::routing::post;
use flate2::read::GzDecoder;
use serde_json::{Value, json};

use super::identity::Identity;
use super::script::{Faults, Requests, says};

pub const INSIGHTS_HOST: &str = "westeurope-test.in.applicationinsights.azure.com";
/// The resource of the tokens that it takes.
pub const AZURE_MONITOR: &str = "https://monitor.azure.com";
/// What names the resource.
pub const INSTRUMENTATION_KEY: &str = "5f2e7c1a-9b3d-4e6f-8a0c-1d2e3f4a5b6c";

#[derive(Clone, Copy, Debug)]
pub enum InsightsFault {
    /// 403: the identity lacks the role Monitoring Metrics Publisher.
    Forbidden,
    /// 503.
    Failing,
    /// No answer, ever.
    Hangs,
}

pub struct Insights {
    pub faults: Faults<InsightsFault>,
    pub requests: Requests,
    identity: Arc<Identity>,
    envelopes: Mutex<Vec<Value>>,
}

impl Insights {
    pub(super) fn new(identity: Arc<Identity>) -> Arc<Self> {
        let (faults, requests) = (Faults::new(), Requests::default());
        Arc::new(Self { faults, requests, identity, envelopes: Mutex::default() })
    }

    pub(super) fn router(self: &Arc<Self>) -> Router {
        Router::new().route("/v2.1/track", post(track)).with_state(Arc::clone(self))
    }

    /// As the portal shows it.
    pub fn connection_string(&self) -> String {
        format!("InstrumentationKey={INSTRUMENTATION_KEY};IngestionEndpoint=https://{INSIGHTS_HOST}/")
    }

    /// Everything that was taken.
    pub fn envelopes(&self) -> Vec<Value> {
        self.envelopes.lock().unwrap().clone()
    }
}

async fn track(State(insights): State<Arc<Insights>>, headers: HeaderMap, body: Bytes) -> Response {
    let number = insights.requests.note(&Method::POST, "/v2.1/track", "");
    let response = match (insights.identity.check_request(&headers, AZURE_MONITOR), insights.faults.take()) {
        (None | Some(Err(_)), _) => says(401, &[], json!({})),
        (_, Some(InsightsFault::Forbidden)) => says(403, &[], json!({})),
        (_, Some(InsightsFault::Failing)) => says(503, &[], json!({})),
        (_, Some(InsightsFault::Hangs)) => pending().await,
        (Some(Ok(())), None) => insights.take(&body),
    };
    insights.requests.answered(number, response)
}

impl Insights {
    fn take(&self, body: &[u8]) -> Response {
        let mut text = String::new();
        GzDecoder::new(body).read_to_string(&mut text).unwrap();
        let envelopes: Vec<Value> = serde_json::from_str(&text).unwrap();
        assert!(envelopes.iter().all(|envelope| envelope["iKey"] == INSTRUMENTATION_KEY));
        let taken = envelopes.len();
        self.envelopes.lock().unwrap().extend(envelopes);
        says(200, &[], json!({ "itemsReceived": taken, "itemsAccepted": taken, "errors": [] }))
    }
}
