//! What is logged, as log records of OpenTelemetry: the same fields as in the lines on standard output, and of an error
//! the whole chain of its causes. The span in which it was logged is found by OpenTelemetry itself.

use std::error::Error;
use std::fmt;
use std::time::SystemTime;

use opentelemetry::Key;
use opentelemetry::logs::{AnyValue, LogRecord as _, Logger as _, LoggerProvider as _, Severity};
use opentelemetry_sdk::logs::{SdkLogRecord, SdkLogger, SdkLoggerProvider};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::causes::chain;

/// Hands on every event.
pub(super) struct LogRecords(SdkLogger);

impl LogRecords {
    pub(super) fn to(provider: &SdkLoggerProvider) -> Self {
        Self(provider.logger("rowgate"))
    }
}

impl<S: Subscriber> Layer<S> for LogRecords {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let (severity, text) = match *event.metadata().level() {
            Level::ERROR => (Severity::Error, "ERROR"),
            Level::WARN => (Severity::Warn, "WARN"),
            Level::INFO => (Severity::Info, "INFO"),
            Level::DEBUG => (Severity::Debug, "DEBUG"),
            Level::TRACE => (Severity::Trace, "TRACE"),
        };
        let mut record = self.0.create_log_record();
        record.set_severity_number(severity);
        record.set_severity_text(text);
        record.set_target(event.metadata().target());
        record.set_observed_timestamp(SystemTime::now());
        event.record(&mut Fields(&mut record));
        self.0.emit(record);
    }
}

struct Fields<'a>(&'a mut SdkLogRecord);

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: impl Into<AnyValue>) {
        match field.name() {
            "message" => self.0.set_body(value.into()),
            name => self.0.add_attribute(Key::from_static_str(name), value),
        }
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, i64::try_from(value).unwrap_or(i64::MAX));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.put(field, chain(value));
    }
}
