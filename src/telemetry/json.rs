//! Logs as one JSON object a line, for machines: the fields of an event beside its time, level, message and target, and
//! of an error the whole chain of its causes. Tells of nothing by itself.

use std::error::Error;
use std::fmt;

use chrono::{SecondsFormat, Utc};
use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::causes::chain;

/// One object a line.
pub(super) struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let time = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
        write!(line, "{{\"timestamp\":\"{time}\",\"level\":\"{}\"", event.metadata().level())?;
        let mut fields = Fields(&mut line, Ok(()));
        event.record(&mut fields);
        fields.1?;
        Context::map_current(|context| {
            let span = context.span();
            let span = span.span_context();
            if !span.is_valid() {
                return Ok(());
            }
            write!(line, ",\"trace_id\":\"{}\",\"span_id\":\"{}\"", span.trace_id(), span.span_id())
        })?;
        writeln!(line, ",\"target\":{}}}", Text(event.metadata().target()))
    }
}

/// Fields as they come, each after a comma.
struct Fields<'a, 'w>(&'a mut Writer<'w>, fmt::Result);

impl Fields<'_, '_> {
    fn put(&mut self, field: &Field, value: impl fmt::Display) {
        self.1 = self.1.and_then(|()| write!(self.0, ",{}:{value}", Text(field.name())));
    }
}

/// A JSON string.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
        match self.0.bytes().all(plain) {
            true => write!(f, "\"{}\"", self.0),
            false => Value::from(self.0).fmt(f),
        }
    }
}

impl Visit for Fields<'_, '_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Text(&format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Text(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::from(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.put(field, Text(&chain(value)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("outside")]
    struct Outer(#[source] Same);

    #[derive(Debug, thiserror::Error)]
    #[error(transparent)]
    struct Same(#[from] std::num::ParseIntError);

    #[test]
    fn an_event_is_one_line_with_its_fields_and_every_cause() {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::fmt().event_format(Json).with_writer(move || writer.clone()).finish();
        let error = Outer(Same("x".parse::<u8>().unwrap_err()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(tool = "a \"b\"\n", ok = false, milliseconds = 7_u64, error = &error as &dyn Error, "call");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&line["level"], &line["message"], &line["tool"]),
            (&"WARN".into(), &"call".into(), &"a \"b\"\n".into())
        );
        assert_eq!((&line["ok"], &line["milliseconds"]), (&false.into(), &7.into()));
        assert_eq!(line["error"], "outside: invalid digit found in string");
        assert!(
            line["timestamp"].as_str().unwrap().ends_with('Z') && line["target"].as_str().unwrap().contains("json")
        );
    }
}
