//! What is logged, and to whom spans, measures and log records go. The exporters' own variables have the names that
//! OpenTelemetry and Application Insights give them everywhere.

use std::net::SocketAddr;

use super::Secret;
use super::reader::Reader;

/// What the program says of itself, and to whom.
#[derive(Clone, Debug)]
pub struct TelemetrySettings {
    /// A level or a filter.
    pub filter: String,
    /// One JSON object a line, or text for a terminal; unset leaves it to the command.
    pub json: Option<bool>,
    /// Whether the text of callers' statements may stand in the log.
    pub sql: bool,
    /// A collector, if there is one.
    pub otlp: Option<OtlpSettings>,
    /// Application Insights, if there is one.
    pub application_insights: Option<ApplicationInsightsSettings>,
    /// Where measures can be read by Prometheus.
    pub metrics: Option<SocketAddr>,
    /// Which part of the traces that begin here is recorded, 0 to 1. Others decide for theirs.
    pub trace_ratio: f64,
    /// What this program is called.
    pub service: String,
    /// Which of its instances this is, if the platform says.
    pub instance: Option<String>,
}

/// A collector that takes OTLP over HTTP.
#[derive(Clone, Debug)]
pub struct OtlpSettings {
    endpoint: String,
}

/// A resource of Application Insights.
#[derive(Clone, Debug)]
pub struct ApplicationInsightsSettings {
    /// Where it is, and which.
    pub connection_string: Secret,
    /// Whether it wants a token of the managed identity.
    pub by_identity: bool,
    /// Whether log records go there: not where the Functions host takes standard output there itself.
    pub logs: bool,
}

impl OtlpSettings {
    /// Where a signal goes (OTLP 1.x, section OTLP/HTTP request): `traces`, `metrics` or `logs`.
    pub fn endpoint_of(&self, signal: &str) -> String {
        format!("{}/v1/{signal}", self.endpoint.trim_end_matches('/'))
    }
}

impl TelemetrySettings {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let exports: Vec<String> = reader.list("ROWGATE_TELEMETRY");
        if let Some(unknown) = exports.iter().find(|e| !["none", "otlp", "application-insights"].contains(&e.as_str()))
        {
            reader.problem(&format!(
                "ROWGATE_TELEMETRY: {unknown:?} is none of `otlp`, `application-insights` and `none`"
            ));
        }
        let wanted = |name: &str| exports.is_empty() || exports.iter().any(|export| export == name);
        let demanded = |name: &str| exports.iter().any(|export| export == name);

        let endpoint = reader.parsed("OTEL_EXPORTER_OTLP_ENDPOINT", None, |text| match text.split_once("://") {
            Some(("http" | "https", host)) if !host.is_empty() => Ok(Some(text.to_owned())),
            _ => Err("not the address of a collector, `http://host:4318`".to_owned()),
        });
        if demanded("otlp") && endpoint.is_none() {
            reader.problem("OTEL_EXPORTER_OTLP_ENDPOINT is not set: it is the collector's address, `http://host:4318`");
        }
        let connection_string = reader.text("APPLICATIONINSIGHTS_CONNECTION_STRING").map(Secret);
        if demanded("application-insights") && connection_string.is_none() {
            reader
                .problem("APPLICATIONINSIGHTS_CONNECTION_STRING is not set: the resource's page in the portal has it");
        }
        let authentication = reader.text("APPLICATIONINSIGHTS_AUTHENTICATION_STRING").unwrap_or_default();
        let behind_host = reader.text("FUNCTIONS_CUSTOMHANDLER_PORT").is_some();
        Self {
            filter: reader.text("ROWGATE_LOG").unwrap_or_else(|| "info".to_owned()),
            json: reader.parsed("ROWGATE_LOG_FORMAT", None, |text| match text {
                "json" => Ok(Some(true)),
                "text" => Ok(Some(false)),
                _ => Err("neither `json` nor `text`".to_owned()),
            }),
            sql: reader
                .parsed("ROWGATE_LOG_SQL", false, |t| t.parse().map_err(|_| "neither `true` nor `false`".to_owned())),
            otlp: endpoint.filter(|_| wanted("otlp")).map(|endpoint| OtlpSettings { endpoint }),
            application_insights: connection_string.filter(|_| wanted("application-insights")).map(
                |connection_string| ApplicationInsightsSettings {
                    connection_string,
                    by_identity: authentication
                        .split(';')
                        .any(|part| part.trim().eq_ignore_ascii_case("authorization=aad")),
                    logs: !behind_host,
                },
            ),
            metrics: reader.parsed("ROWGATE_METRICS_ADDRESS", None, |text| {
                text.parse().map(Some).map_err(|_| "not an address with a port, `127.0.0.1:9464`".to_owned())
            }),
            trace_ratio: reader.parsed("ROWGATE_TRACE_RATIO", 1.0, |text| match text.parse() {
                Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
                _ => Err("not a number from 0 to 1".to_owned()),
            }),
            service: reader.text("OTEL_SERVICE_NAME").unwrap_or_else(|| "rowgate".to_owned()),
            instance: reader.text("WEBSITE_INSTANCE_ID").or(reader.text("HOSTNAME")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settings;

    fn read(pairs: &[(&str, &str)]) -> Result<super::TelemetrySettings, String> {
        let settings = Settings::read(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
        settings.map(|settings| settings.telemetry).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_named_is_exported_to_unless_told_otherwise() {
        let nowhere = read(&[]).unwrap();
        assert!(nowhere.otlp.is_none() && nowhere.application_insights.is_none() && nowhere.metrics.is_none());
        let both = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318/"),
            ("APPLICATIONINSIGHTS_CONNECTION_STRING", "InstrumentationKey=hunter2"),
            ("APPLICATIONINSIGHTS_AUTHENTICATION_STRING", "Authorization=AAD;ClientId=x"),
        ];
        let settings = read(&both).unwrap();
        assert_eq!(settings.otlp.as_ref().unwrap().endpoint_of("traces"), "http://127.0.0.1:4318/v1/traces");
        let insights = settings.application_insights.as_ref().unwrap();
        assert!(insights.by_identity && insights.logs && !format!("{settings:?}").contains("hunter2"));
        let with = |more: &[(&str, &str)]| read(&[&both[..], more].concat());
        let behind = with(&[("FUNCTIONS_CUSTOMHANDLER_PORT", "1")]).unwrap();
        assert!(!behind.application_insights.unwrap().logs);
        let one = with(&[("ROWGATE_TELEMETRY", "otlp")]).unwrap();
        assert!(one.otlp.is_some() && one.application_insights.is_none());
        let none = with(&[("ROWGATE_TELEMETRY", "none")]).unwrap();
        assert!(none.otlp.is_none() && none.application_insights.is_none());
    }

    #[test]
    fn what_is_wrong_is_told_without_a_secret() {
        for (name, value) in [
            ("ROWGATE_TELEMETRY", "jaeger"),
            ("ROWGATE_TELEMETRY", "otlp"),
            ("ROWGATE_TELEMETRY", "application-insights"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
            ("ROWGATE_METRICS_ADDRESS", "9464"),
            ("ROWGATE_TRACE_RATIO", "2"),
        ] {
            assert!(read(&[(name, value)]).is_err(), "{name}={value}");
        }
    }
}
