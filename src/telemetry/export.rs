//! To whom spans, measures and log records go: a collector by OTLP, Application Insights by its connection string, or
//! whoever reads `/metrics`. Nothing here is waited for by a call: what is finished lies in bounded queues, which threads
//! of their own empty, and what does not fit is dropped.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_application_insights::Exporter;
use opentelemetry_otlp::{WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{BatchLogProcessor, SdkLoggerProvider};
use opentelemetry_sdk::metrics::{MeterProviderBuilder, PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, TracerProviderBuilder,
};
use prometheus::{Registry, TextEncoder};
use tokio::runtime::Handle;

use super::courier::{Courier, TokenSource};
use super::{TelemetryError, measure, span};
use crate::config::{OtlpSettings, TelemetrySettings};

/// How long what is finished waits for more of its kind.
const SPANS_WAIT: Duration = Duration::from_secs(2);
const MEASURES_WAIT: Duration = Duration::from_secs(60);

/// Spans that wait to be exported, at most: some 2 MB.
const QUEUE: usize = 4_096;

/// How long the process's end waits for the last export.
pub(super) const LAST: Duration = Duration::from_secs(2);

/// Whatever exports.
#[derive(Clone, Default)]
pub(super) struct Exports {
    spans: Option<SdkTracerProvider>,
    measures: Option<SdkMeterProvider>,
    pub(super) records: Option<SdkLoggerProvider>,
    registry: Option<Registry>,
}

impl Exports {
    /// Begins to export as the settings say; `token` proves to Application Insights who sends.
    pub(super) fn begin(settings: &TelemetrySettings, token: Option<TokenSource>) -> Result<Self, TelemetryError> {
        let insights = settings.application_insights.as_ref();
        if settings.otlp.is_none() && insights.is_none() && settings.metrics.is_none() {
            return Ok(Self::default());
        }
        let resource = resource(settings);
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.trace_ratio)));
        let mut spans = SdkTracerProvider::builder().with_resource(resource.clone()).with_sampler(sampler);
        let mut measures = SdkMeterProvider::builder().with_resource(resource.clone());
        let mut records = SdkLoggerProvider::builder().with_resource(resource);
        let (mut traced, mut logged) = (false, false);

        if let Some(otlp) = &settings.otlp {
            let courier = Courier::new(Handle::current(), None);
            spans = by_otlp(spans, otlp, &courier)?;
            measures = measured_by_otlp(measures, otlp, &courier)?;
            let exporter = opentelemetry_otlp::LogExporter::builder()
                .with_http()
                .with_http_client(courier)
                .with_endpoint(otlp.endpoint_of("logs"))
                .build()?;
            records = records.with_log_processor(BatchLogProcessor::builder(exporter).build());
            (traced, logged) = (true, true);
        }
        if let Some(insights) = insights {
            let courier = Courier::new(Handle::current(), token.filter(|_| insights.by_identity));
            let exporter = Exporter::new_from_connection_string(insights.connection_string.expose(), courier)
                .map_err(TelemetryError::ApplicationInsights)?;
            spans = spans.with_span_processor(batched(exporter.clone()));
            measures =
                measures.with_reader(PeriodicReader::builder(exporter.clone()).with_interval(MEASURES_WAIT).build());
            if insights.logs {
                records = records.with_log_processor(BatchLogProcessor::builder(exporter).build());
                logged = true;
            }
            traced = true;
        }
        let mut registry = None;
        if settings.metrics.is_some() {
            let read = Registry::new();
            measures = measures.with_reader(opentelemetry_prometheus::exporter().with_registry(read.clone()).build()?);
            registry = Some(read);
        }

        let measures = measures.build();
        measure::export_by(measures.meter("rowgate"));
        let spans = traced.then(|| spans.build());
        if let Some(spans) = &spans {
            span::export_by(spans.tracer("rowgate"));
        }
        Ok(Self { spans, measures: Some(measures), records: logged.then(|| records.build()), registry })
    }

    /// Whether anything goes anywhere by itself.
    pub(super) fn pushes(&self) -> bool {
        self.spans.is_some()
    }

    /// Sends what is there. Blocks until it has been sent or given up.
    pub(super) fn flush(&self) {
        // What can not be sent was told by the courier.
        let _ = self.spans.as_ref().map(SdkTracerProvider::force_flush);
        let _ = self.records.as_ref().map(SdkLoggerProvider::force_flush);
        let _ = self.measures.as_ref().map(SdkMeterProvider::force_flush);
    }

    /// Sends what is there for the last time. Blocks, and longer than [`LAST`] where an exporter tries again and again.
    pub(super) fn end(&self) {
        std::thread::scope(|scope| {
            scope.spawn(|| self.spans.as_ref().map(|spans| spans.shutdown_with_timeout(LAST)));
            scope.spawn(|| self.records.as_ref().map(|records| records.shutdown_with_timeout(LAST)));
            scope.spawn(|| self.measures.as_ref().map(|measures| measures.shutdown_with_timeout(LAST)));
        });
    }

    /// All measures as Prometheus reads them; `None` if nobody may.
    pub(super) fn text(&self) -> Option<String> {
        TextEncoder::new().encode_to_string(&self.registry.as_ref()?.gather()).ok()
    }
}

fn resource(settings: &TelemetrySettings) -> Resource {
    let mut resource = Resource::builder()
        .with_service_name(settings.service.clone())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    if let Some(instance) = &settings.instance {
        resource = resource.with_attribute(KeyValue::new("service.instance.id", instance.clone()));
    }
    resource.build()
}

fn batched(exporter: impl opentelemetry_sdk::trace::SpanExporter + 'static) -> BatchSpanProcessor {
    let config = BatchConfigBuilder::default().with_max_queue_size(QUEUE).with_scheduled_delay(SPANS_WAIT).build();
    BatchSpanProcessor::builder(exporter).with_batch_config(config).build()
}

fn by_otlp(
    spans: TracerProviderBuilder,
    otlp: &OtlpSettings,
    courier: &Courier,
) -> Result<TracerProviderBuilder, TelemetryError> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(courier.clone())
        .with_endpoint(otlp.endpoint_of("traces"))
        .build()?;
    Ok(spans.with_span_processor(batched(exporter)))
}

fn measured_by_otlp(
    measures: MeterProviderBuilder,
    otlp: &OtlpSettings,
    courier: &Courier,
) -> Result<MeterProviderBuilder, TelemetryError> {
    let exporter = opentelemetry_otlp::MetricExporter::builder()
        .with_http()
        .with_http_client(courier.clone())
        .with_endpoint(otlp.endpoint_of("metrics"))
        .build()?;
    Ok(measures.with_reader(PeriodicReader::builder(exporter).with_interval(MEASURES_WAIT).build()))
}
