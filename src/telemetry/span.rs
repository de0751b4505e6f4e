//! Spans: what a request did, and for how long, under whom. While nothing is exported they cost a comparison. A span's
//! attributes are names, numbers and outcomes; never SQL, principals, rows or secrets.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use axum::http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{FutureExt, Link, SpanBuilder, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracer;
use serde_json::{Map, Value as Json};

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Who is at the other end of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Somebody asked us.
    Server,
    /// We asked somebody.
    Client,
    /// Nobody.
    Internal,
}

/// A span, or nothing while nothing is exported. Ends when it is dropped.
#[derive(Debug)]
pub struct Span(Option<Context>);

/// The fields of a message, as what carries a trace (SEP-414 of MCP).
struct Fields<'a>(&'a Map<String, Json>);

impl Extractor for Fields<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.as_str()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

/// The inside of a span, for what runs elsewhere but belongs there.
#[derive(Clone, Debug, Default)]
pub struct Within(Option<Context>);

/// Whoever asks says of which trace that is: W3C Trace Context.
pub(super) fn export_by(tracer: SdkTracer) {
    // A second start, as in tests, keeps the first one's.
    let _ = TRACER.set(tracer);
}

impl Span {
    /// A span under the one that runs here.
    pub fn begin(kind: Kind, name: impl Into<Cow<'static, str>>) -> Self {
        Self(TRACER.get().map(|tracer| start(tracer, SpanBuilder::from_name(name), kind, &Context::current())))
    }

    /// A span under the one that the headers of a request name, `traceparent` and `tracestate`.
    pub fn of_request(name: impl Into<Cow<'static, str>>, headers: &HeaderMap) -> Self {
        let begin = |tracer| {
            let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &HeaderExtractor(headers));
            start(tracer, SpanBuilder::from_name(name), Kind::Server, &parent)
        };
        Self(TRACER.get().map(begin))
    }

    /// A span under the one that a message's own fields name, and linked to the one of the request that brought it;
    /// without such fields under the latter (semantic conventions, MCP).
    pub fn of_message(name: impl FnOnce() -> String, fields: &Map<String, Json>, request: Option<&Within>) -> Self {
        let begin = |tracer| {
            let here = request.and_then(|within| within.0.clone()).unwrap_or_default();
            let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &Fields(fields));
            let builder = SpanBuilder::from_name(name());
            if parent.span().span_context().is_valid() {
                let link = Link::with_context(here.span().span_context().clone());
                start(tracer, builder.with_links(vec![link]), Kind::Server, &parent)
            } else {
                start(tracer, builder, Kind::Server, &here)
            }
        };
        Self(TRACER.get().map(begin))
    }

    /// A span that has just ended, where only its length says whether it is worth one.
    pub fn ended(kind: Kind, name: impl Into<Cow<'static, str>>, took: Duration) {
        if let Some(tracer) = TRACER.get() {
            let now = SystemTime::now();
            let builder = SpanBuilder::from_name(name).with_start_time(now.checked_sub(took).unwrap_or(now));
            start(tracer, builder, kind, &Context::current()).span().end();
        }
    }

    /// Its inside.
    pub fn within(&self) -> Within {
        Within(self.0.clone())
    }

    /// Whether anybody will see it: what is dear to find out is found out only then.
    pub fn is_seen(&self) -> bool {
        self.0.as_ref().is_some_and(|context| context.span().is_recording())
    }

    /// Says something of it.
    pub fn set(&self, key: &'static str, value: impl Into<Value>) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new(key, value));
        }
    }

    /// Says that it failed, and of which kind the failure was.
    pub fn fail(&self, error_type: impl Into<Cow<'static, str>>) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new("error.type", error_type.into()));
            context.span().set_status(Status::error(""));
        }
    }

    /// Runs a future inside of it: spans that begin there are under this one, and what is logged there names it. It is
    /// pinned by whoever has it, since a future that is handed on by value is there twice.
    pub async fn around<F: Future>(&self, future: Pin<&mut F>) -> F::Output {
        match &self.0 {
            Some(context) => future.with_context(context.clone()).await,
            None => future.await,
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(context) = &self.0 {
            context.span().end();
        }
    }
}

/// A future that takes the span that runs here along, into a task of its own.
pub fn carried<F: Future>(future: F) -> impl Future<Output = F::Output> {
    future.with_current_context()
}

fn start(tracer: &SdkTracer, builder: SpanBuilder, kind: Kind, parent: &Context) -> Context {
    let kind = match kind {
        Kind::Server => SpanKind::Server,
        Kind::Client => SpanKind::Client,
        Kind::Internal => SpanKind::Internal,
    };
    parent.with_span(tracer.build_with_context(builder.with_kind(kind), parent))
}
