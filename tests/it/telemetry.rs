//! What is told of a call, and to whom: a collector and Application Insights on loopback look at what arrives. Whether
//! they answer makes no difference to callers, and nobody is told a secret, a row or a statement.

mod deployment;
mod insights;
mod measures;
mod redaction;
mod traces;

use crate::support::azure::LoopbackAzure;
use crate::support::collector::Collector;
use crate::support::{Process, TestDatabase};

/// A server that searches by Azure OpenAI and tells a collector.
fn serve_with_search(database: &TestDatabase, collector: &Collector, azure: &LoopbackAzure) -> Process {
    Process::serve(
        database,
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url()),
            ("ROWGATE_EMBEDDER", "azure-openai"),
            ("ROWGATE_OPENAI_ENDPOINT", &azure.plain_openai()),
            ("ROWGATE_OPENAI_KEY", &azure.openai.key),
        ],
    )
}
