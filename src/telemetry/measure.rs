//! What is counted and measured. Each function is one fact that a room above has to tell; while nothing is exported it
//! returns at once. Labels are few and known: no SQL, no principal, no id.

use std::sync::OnceLock;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};

use super::names::{self, Named};

/// Seconds, finer than the conventions' below ten milliseconds, where most calls are.
const SECONDS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];
const ROWS: [f64; 9] = [0.0, 1.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0];
const BYTES: [f64; 8] = [256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 8_388_608.0];
const TOKENS: [f64; 8] = [1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0, 16_384.0];

static MEASURES: OnceLock<Measures> = OnceLock::new();

struct Measures {
    meter: Meter,
    http: Histogram<f64>,
    mcp: Histogram<f64>,
    calls: Counter<u64>,
    rows: Histogram<u64>,
    bytes: Histogram<u64>,
    refusals: Counter<u64>,
    lookups: Counter<u64>,
    start: Histogram<f64>,
    secrets: Histogram<f64>,
    database: Histogram<f64>,
    waits: Histogram<f64>,
    creates: Histogram<f64>,
    timeouts: Counter<u64>,
    embeddings: Histogram<f64>,
    tokens: Histogram<u64>,
}

/// What a pool is doing.
#[derive(Clone, Copy, Debug)]
pub struct PoolState {
    /// Connections in use.
    pub used: usize,
    /// Connections that wait to be used.
    pub idle: usize,
    /// Connections at most.
    pub most: usize,
    /// Calls that wait for one.
    pub pending: usize,
}

pub(super) fn export_by(meter: Meter) {
    let seconds = |(name, unit, about): Named| {
        let builder = meter.f64_histogram(name).with_unit(unit).with_description(about);
        builder.with_boundaries(SECONDS.to_vec()).build()
    };
    let numbers = |(name, unit, about): Named, bounds: &[f64]| {
        let builder = meter.u64_histogram(name).with_unit(unit).with_description(about);
        builder.with_boundaries(bounds.to_vec()).build()
    };
    let counter = |(name, unit, about): Named| meter.u64_counter(name).with_unit(unit).with_description(about).build();
    let measures = Measures {
        http: seconds(names::HTTP_DURATION),
        mcp: seconds(names::MCP_DURATION),
        calls: counter(names::CALLS),
        rows: numbers(names::CALL_ROWS, &ROWS),
        bytes: numbers(names::CALL_BYTES, &BYTES),
        refusals: counter(names::REFUSALS),
        lookups: counter(names::LOOKUPS),
        start: seconds(names::START),
        secrets: seconds(names::SECRET_DURATION),
        database: seconds(names::DB_DURATION),
        waits: seconds(names::POOL_WAIT),
        creates: seconds(names::POOL_CREATE),
        timeouts: counter(names::POOL_TIMEOUTS),
        embeddings: seconds(names::EMBEDDING_DURATION),
        tokens: numbers(names::EMBEDDING_TOKENS, &TOKENS),
        meter,
    };
    // A second start, as in tests, keeps the first one's.
    let _ = MEASURES.set(measures);
}

fn told(tell: impl FnOnce(&Measures)) {
    if let Some(measures) = MEASURES.get() {
        tell(measures);
    }
}

/// A request of HTTP. `route`: as the router has it.
pub fn http(method: &'static str, route: &'static str, status: u16, took: Duration) {
    told(|measures| {
        let labels = [
            KeyValue::new("http.request.method", method),
            KeyValue::new("http.route", route),
            KeyValue::new("http.response.status_code", i64::from(status)),
        ];
        measures.http.record(took.as_secs_f64(), &labels);
    });
}

/// A request of MCP. `tool`: one that there is.
pub fn mcp(method: &'static str, tool: Option<&str>, error: Option<&'static str>, took: Duration) {
    told(|measures| {
        let mut labels = Vec::with_capacity(3);
        labels.push(KeyValue::new("mcp.method.name", method));
        labels.extend(tool.map(|tool| KeyValue::new("gen_ai.tool.name", tool.to_owned())));
        labels.extend(error.map(|error| KeyValue::new("error.type", error)));
        measures.mcp.record(took.as_secs_f64(), &labels);
    });
}

/// A call of a tool that there is, and what came of it.
pub fn call(tool: &str, outcome: &'static str, rows: u64, bytes: u64) {
    told(|measures| {
        let tool = KeyValue::new("gen_ai.tool.name", tool.to_owned());
        measures.calls.add(1, &[tool.clone(), KeyValue::new("rowgate.outcome", outcome)]);
        measures.rows.record(rows, std::slice::from_ref(&tool));
        measures.bytes.record(bytes, &[tool]);
    });
}

/// Somebody or something was refused.
pub fn refused(reason: &'static str) {
    told(|measures| measures.refusals.add(1, &[KeyValue::new("rowgate.reason", reason)]));
}

/// Something was looked for where it may have been kept.
pub fn looked_up(cache: &'static str, hit: bool) {
    told(|measures| {
        measures.lookups.add(1, &[KeyValue::new("rowgate.cache", cache), KeyValue::new("rowgate.hit", hit)]);
    });
}

/// A part of the process's start.
pub(super) fn started(phase: &'static str, took: Duration) {
    told(|measures| measures.start.record(took.as_secs_f64(), &[KeyValue::new("rowgate.phase", phase)]));
}

/// A secret or a token was fetched, or was not.
pub fn secret(kind: &'static str, fetched: bool, took: Duration) {
    told(|measures| {
        let mut labels = vec![KeyValue::new("rowgate.kind", kind)];
        labels.extend((!fetched).then(|| KeyValue::new("error.type", "unavailable")));
        measures.secrets.record(took.as_secs_f64(), &labels);
    });
}

/// The database worked on something.
pub fn database(operation: &'static str, error: Option<&'static str>, took: Duration) {
    told(|measures| {
        let mut labels = Vec::with_capacity(3);
        labels.push(KeyValue::new("db.system.name", "postgresql"));
        labels.push(KeyValue::new("db.operation.name", operation));
        labels.extend(error.map(|error| KeyValue::new("error.type", error)));
        measures.database.record(took.as_secs_f64(), &labels);
    });
}

/// A call waited for a connection, and got one or not.
pub fn waited(got: bool, took: Duration) {
    told(|measures| {
        measures.waits.record(took.as_secs_f64(), &[]);
        if !got {
            measures.timeouts.add(1, &[]);
        }
    });
}

/// A connection was made, or was not.
pub fn connected(made: bool, took: Duration) {
    told(|measures| {
        let error = (!made).then(|| KeyValue::new("error.type", "unreachable"));
        measures.creates.record(took.as_secs_f64(), error.as_slice());
    });
}

/// Texts were embedded, or were not.
pub fn embedded(provider: &'static str, model: &str, tokens: Option<u64>, took: Duration) {
    told(|measures| {
        let mut labels = vec![
            KeyValue::new("gen_ai.operation.name", "embeddings"),
            KeyValue::new("gen_ai.provider.name", provider),
            KeyValue::new("gen_ai.request.model", model.to_owned()),
        ];
        if let Some(tokens) = tokens {
            measures.tokens.record(tokens, &labels);
        } else {
            labels.push(KeyValue::new("error.type", "unavailable"));
        }
        measures.embeddings.record(took.as_secs_f64(), &labels);
    });
}

/// From now on the state of a pool is asked for whenever measures are read; `None` once it is no more.
pub fn watch_pool(state: impl Fn() -> Option<PoolState> + Send + Sync + Clone + 'static) {
    told(|Measures { meter, .. }| {
        let gauge = |(name, unit, about): Named| {
            meter.i64_observable_up_down_counter(name).with_unit(unit).with_description(about)
        };
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let seen = state.clone();
        gauge(names::POOL_COUNT)
            .with_callback(move |observer| {
                if let Some(pool) = seen() {
                    observer.observe(number(pool.used), &[KeyValue::new("db.client.connection.state", "used")]);
                    observer.observe(number(pool.idle), &[KeyValue::new("db.client.connection.state", "idle")]);
                }
            })
            .build();
        let seen = state.clone();
        gauge(names::POOL_MAX)
            .with_callback(move |observer| {
                if let Some(pool) = seen() {
                    observer.observe(number(pool.most), &[]);
                }
            })
            .build();
        gauge(names::POOL_PENDING)
            .with_callback(move |observer| {
                if let Some(pool) = state() {
                    observer.observe(number(pool.pending), &[]);
                }
            })
            .build();
    });
}
