//! Everything that is tested against a real PostgreSQL: one cluster a run, one database a test, cloned from a template,
//! and the real application role.
#![allow(
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

mod azure_openai;
mod budgets;
mod callers;
mod command;
mod doctor;
mod entra;
mod errors;
mod faults;
mod forging;
mod grants;
mod health;
mod hostile;
mod hostile_http;
mod house;
mod identity;
mod limits;
mod loopback_azure;
mod migrations;
mod package;
mod pgbouncer;
mod posture;
mod protocol;
mod round_trips;
mod sample;
mod schemas;
mod search;
mod search_quality;
mod search_recall;
mod secrets;
mod telemetry;
mod values;
mod writes;
