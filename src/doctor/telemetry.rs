//! Where telemetry goes, and whether it is taken there. Callers do not depend on it, so what is not taken is warned of;
//! what keeps a server from starting is a failure.

use axum::http::Uri;

use super::{Check, Mark, chain};
use crate::app::Azure;
use crate::config::{ApplicationInsightsSettings, OtlpSettings, TelemetrySettings};
use crate::telemetry::reach::{self, Unreached};

/// What was seen of one place, and what to do about it.
struct Place {
    seen: String,
    wrong: Option<(Mark, &'static str)>,
}

/// One check of all places.
pub(super) async fn check(settings: &TelemetrySettings, azure: &Azure) -> Check {
    let name = "telemetry";
    let mut places = Vec::new();
    if let Some(otlp) = &settings.otlp {
        places.push(collector(otlp).await);
    }
    if let Some(insights) = &settings.application_insights {
        places.push(application_insights(insights, azure).await);
    }
    if let Some(address) = settings.metrics {
        places.push(Place { seen: format!("measures for Prometheus at http://{address}/metrics"), wrong: None });
    }
    if places.is_empty() {
        return Check::new(name, Mark::Skipped, "goes nowhere but to the log");
    }
    let wrong: Vec<_> = places.iter().filter_map(|place| place.wrong).collect();
    let mark = match wrong.as_slice() {
        [] => Mark::Ok,
        wrong if wrong.iter().any(|(mark, _)| *mark == Mark::Failed) => Mark::Failed,
        _ => Mark::Warning,
    };
    let seen: Vec<_> = places.into_iter().map(|place| place.seen).collect();
    let check = Check::new(name, mark, seen.join("; "));
    let run: Vec<_> = wrong.into_iter().map(|(_, run)| run).collect();
    if run.is_empty() { check } else { check.run(run.join("; ")) }
}

/// Sends an export of nothing.
async fn collector(otlp: &OtlpSettings) -> Place {
    let to = shown(&otlp.endpoint_of("traces"));
    match reach::export_nothing(otlp).await {
        Ok(took) => Place { seen: format!("OTLP to {to}, taken in {:.1} ms", took.as_secs_f64() * 1e3), wrong: None },
        Err(error) => {
            let wrong = match &error {
                Unreached::Settings(_) => {
                    (Mark::Failed, "OTEL_EXPORTER_OTLP_ENDPOINT is the collector's address, http://host:4318")
                }
                Unreached::Refused(401 | 403) => (
                    Mark::Warning,
                    "OTEL_EXPORTER_OTLP_HEADERS has to hold what the collector wants to know its clients by",
                ),
                Unreached::Refused(404 | 405) => (
                    Mark::Warning,
                    "OTEL_EXPORTER_OTLP_ENDPOINT is the address without /v1/traces, of a receiver of OTLP over HTTP",
                ),
                Unreached::Refused(_) => (Mark::Warning, "look at the collector's log"),
                Unreached::Network(_) | Unreached::TimedOut(_) => (
                    Mark::Warning,
                    "is OTEL_EXPORTER_OTLP_ENDPOINT right, does the collector run, does it take OTLP over HTTP there?",
                ),
            };
            Place { seen: format!("OTLP to {to}: {}", chain(&error)), wrong: Some(wrong) }
        }
    }
}

/// Asks for a token, where one is wanted. Sends nothing, as everything that is sent is stored.
async fn application_insights(insights: &ApplicationInsightsSettings, azure: &Azure) -> Place {
    let name = "Application Insights";
    if let Err(error) = reach::check_connection_string(insights) {
        let run = "APPLICATIONINSIGHTS_CONNECTION_STRING has to be as the resource's page in the portal shows it";
        return Place { seen: format!("{name}: {error}"), wrong: Some((Mark::Failed, run)) };
    }
    if !insights.by_identity {
        return Place { seen: format!("{name}, by its connection string alone"), wrong: None };
    }
    match azure.monitor_token()().await {
        Ok(_) => Place { seen: format!("{name}, as the managed identity, which has a token"), wrong: None },
        Err(error) => Place {
            seen: format!("{name}, as the managed identity: {}", chain(&*error)),
            wrong: Some((
                Mark::Warning,
                "assign the identity to the app, set ROWGATE_MANAGED_IDENTITY_CLIENT_ID to its client id, and give it \
                 the role Monitoring Metrics Publisher on the resource",
            )),
        },
    }
}

/// An address without what may be secret in it: credentials and a query.
fn shown(address: &str) -> String {
    let Ok(uri) = address.parse::<Uri>() else { return "its address".to_owned() };
    let port = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", uri.scheme_str().unwrap_or("http"), uri.host().unwrap_or_default(), uri.path())
}
