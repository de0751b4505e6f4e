//! A collector of OpenTelemetry's on loopback: takes OTLP over HTTP, as protobuf, and keeps what came.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point;
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub type Labels = BTreeMap<String, String>;

/// How the collector answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collecting {
    Takes,
    /// 503, and keeps nothing.
    Fails,
    /// Never answers.
    Hangs,
}

#[derive(Clone, Debug)]
pub struct CollectedSpan {
    pub name: String,
    pub kind: i32,
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub failed: bool,
    pub links: Vec<String>,
    pub attributes: Labels,
}

/// One series of a measure: how often, and how much in all.
#[derive(Clone, Debug)]
pub struct CollectedMeasure {
    pub name: String,
    pub unit: String,
    pub labels: Labels,
    pub count: u64,
    pub sum: f64,
}

#[derive(Clone, Debug)]
pub struct CollectedLog {
    pub body: String,
    pub severity: String,
    pub trace: String,
    pub attributes: Labels,
}

#[derive(Default)]
struct Collected {
    spans: Vec<CollectedSpan>,
    measures: BTreeMap<String, CollectedMeasure>,
    logs: Vec<CollectedLog>,
    resource: Labels,
    /// Everything as text, to look for what must not be there.
    raw: Vec<u8>,
}

pub struct Collector {
    address: SocketAddr,
    state: Arc<CollectorState>,
    serving: JoinHandle<()>,
}

struct CollectorState {
    collected: Mutex<Collected>,
    how: Mutex<Collecting>,
}

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(CollectorState { collected: Mutex::default(), how: Mutex::new(Collecting::Takes) });
        let router = Router::new()
            .route("/v1/traces", post(traces))
            .route("/v1/metrics", post(metrics))
            .route("/v1/logs", post(logs))
            .with_state(Arc::clone(&state));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, state, serving }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn will(&self, how: Collecting) {
        *self.state.how.lock().unwrap() = how;
    }

    fn collected<T>(&self, read: impl FnOnce(&Collected) -> T) -> T {
        read(&self.state.collected.lock().unwrap())
    }

    pub fn spans(&self) -> Vec<CollectedSpan> {
        self.collected(|collected| collected.spans.clone())
    }

    pub fn measures(&self) -> Vec<CollectedMeasure> {
        self.collected(|collected| collected.measures.values().cloned().collect())
    }

    pub fn logs(&self) -> Vec<CollectedLog> {
        self.collected(|collected| collected.logs.clone())
    }

    pub fn resource(&self) -> Labels {
        self.collected(|collected| collected.resource.clone())
    }

    pub fn raw(&self) -> String {
        self.collected(|collected| String::from_utf8_lossy(&collected.raw).into_owned())
    }

    /// Waits until what came is what is wanted.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !wanted(self) {
            assert!(Instant::now() < deadline, "{what} did not come: {:#?}", self.spans());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl CollectorState {
    /// The message, if the collector takes it now.
    async fn take<M: Message + Default>(&self, headers: &HeaderMap, body: &Bytes) -> Result<M, StatusCode> {
        assert_eq!(headers["content-type"], "application/x-protobuf");
        let how = *self.how.lock().unwrap();
        match how {
            Collecting::Takes => {}
            Collecting::Fails => return Err(StatusCode::SERVICE_UNAVAILABLE),
            Collecting::Hangs => std::future::pending().await,
        }
        self.collected.lock().unwrap().raw.extend_from_slice(body);
        Ok(M::decode(body.clone()).unwrap())
    }
}

async fn traces(State(state): State<Arc<CollectorState>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let message: ExportTraceServiceRequest = match state.take(&headers, &body).await {
        Ok(message) => message,
        Err(status) => return status,
    };
    let mut collected = state.collected.lock().unwrap();
    for of in message.resource_spans {
        collected.resource = labels(&of.resource.unwrap_or_default().attributes);
        for span in of.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            collected.spans.push(CollectedSpan {
                attributes: labels(&span.attributes),
                name: span.name,
                kind: span.kind,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                failed: span.status.is_some_and(|status| status.code == 2),
                links: span.links.iter().map(|link| hex(&link.span_id)).collect(),
            });
        }
    }
    StatusCode::OK
}

async fn metrics(State(state): State<Arc<CollectorState>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let message: ExportMetricsServiceRequest = match state.take(&headers, &body).await {
        Ok(message) => message,
        Err(status) => return status,
    };
    let mut collected = state.collected.lock().unwrap();
    let all = message.resource_metrics.into_iter().flat_map(|of| of.scope_metrics).flat_map(|scope| scope.metrics);
    for metric in all {
        let series: Vec<(Labels, u64, f64)> = match metric.data.unwrap() {
            Data::Histogram(histogram) => {
                let point = |point: &opentelemetry_proto::tonic::metrics::v1::HistogramDataPoint| {
                    (labels(&point.attributes), point.count, point.sum.unwrap_or_default())
                };
                histogram.data_points.iter().map(point).collect()
            }
            Data::Sum(sum) => sum.data_points.iter().map(number).collect(),
            Data::Gauge(gauge) => gauge.data_points.iter().map(number).collect(),
            other => panic!("{other:?}"),
        };
        for (labels, count, sum) in series {
            let key = format!("{} {labels:?}", metric.name);
            let (name, unit) = (metric.name.clone(), metric.unit.clone());
            // What was counted so far, not what came since: the last word is the whole.
            collected.measures.insert(key, CollectedMeasure { name, unit, labels, count, sum });
        }
    }
    StatusCode::OK
}

async fn logs(State(state): State<Arc<CollectorState>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let message: ExportLogsServiceRequest = match state.take(&headers, &body).await {
        Ok(message) => message,
        Err(status) => return status,
    };
    let mut collected = state.collected.lock().unwrap();
    let all = message.resource_logs.into_iter().flat_map(|of| of.scope_logs).flat_map(|scope| scope.log_records);
    for record in all {
        collected.logs.push(CollectedLog {
            body: record.body.as_ref().map(text).unwrap_or_default(),
            severity: record.severity_text,
            trace: hex(&record.trace_id),
            attributes: labels(&record.attributes),
        });
    }
    StatusCode::OK
}

fn number(point: &opentelemetry_proto::tonic::metrics::v1::NumberDataPoint) -> (Labels, u64, f64) {
    let value = match point.value.unwrap() {
        number_data_point::Value::AsDouble(value) => value,
        number_data_point::Value::AsInt(value) => value as f64,
    };
    (labels(&point.attributes), 1, value)
}

fn labels(attributes: &[KeyValue]) -> Labels {
    attributes.iter().map(|of| (of.key.clone(), of.value.as_ref().map(text).unwrap_or_default())).collect()
}

fn text(value: &AnyValue) -> String {
    match value.value.as_ref() {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
