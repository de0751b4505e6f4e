//! The server and what protects its rows: version, connections, clocks, roles, row-level security, policies.

use super::{Check, Mark, chain};
use crate::config::Settings;
use crate::db::{Db, DbError, Examined, TablePolicies};

/// How far two clocks may be apart before tokens come to an early end, or are good for too long.
const SKEW_SECONDS: f64 = 30.0;
/// How few connections are too few.
const FEW_CONNECTIONS: i64 = 5;

/// What was seen of the server.
pub(super) fn examined(settings: &Settings, examined: &Result<Examined, DbError>) -> Vec<Check> {
    let examined = match examined {
        Ok(examined) => examined,
        Err(error) => {
            let check = Check::new("database", Mark::Failed, chain(error));
            return vec![check.run(error.advice())];
        }
    };
    let Examined { version, latency, connections, most_connections, ahead_seconds, vector, tls } = examined;
    let wire = if *tls { "TLS, verified" } else { "no TLS" };
    let mut checks = vec![Check::new(
        "database",
        Mark::Ok,
        format!("PostgreSQL {version}, {wire}, {:.1} ms a round trip", latency.as_secs_f64() * 1e3),
    )];
    let left = most_connections - connections;
    let seen = format!("{left} of {most_connections} are free; this server's pool has {}", settings.database.pool_size);
    checks.push(if left < FEW_CONNECTIONS {
        Check::new("connections", Mark::Warning, seen)
            .run("lower ROWGATE_POOL_SIZE or the number of instances, or put PgBouncer in front")
    } else {
        Check::new("connections", Mark::Ok, seen)
    });
    checks.push(if ahead_seconds.abs() > SKEW_SECONDS {
        Check::new("clocks", Mark::Failed, format!("the database's clock is {ahead_seconds:+.0} s from this machine's"))
            .run("set both clocks by NTP: tokens begin and end by them")
    } else {
        Check::new("clocks", Mark::Ok, format!("{:.1} s apart", ahead_seconds.abs()))
    });
    checks.push(match vector {
        Some(version) => Check::new("pgvector", Mark::Ok, version.clone()),
        None => Check::new("pgvector", Mark::Warning, "not in this database, so there is no search by meaning")
            .run("as an administrator: create extension vector"),
    });
    checks
}

/// Whether the protection of rows is as it was migrated, and what each table's policies rest on.
pub(super) async fn protection(database: &Db) -> [Check; 2] {
    let (name, ready) = ("row-level security", database.check_ready().await);
    let posture = match &ready {
        Ok(()) => Check::new(name, Mark::Ok, "roles, tables, policies and functions are as they were migrated"),
        Err(DbError::Unsafe(problems)) => {
            let what: Vec<_> = problems.iter().map(|problem| problem.what.as_str()).collect();
            let mend: Vec<_> = problems.iter().map(|problem| problem.mend.as_str()).collect();
            Check::new(name, Mark::Failed, what.join("; ")).run(mend.join("; "))
        }
        Err(error) => Check::new(name, Mark::Failed, chain(error)).run(error.advice()),
    };
    let name = "policies";
    let policies = match ready {
        Ok(()) | Err(DbError::Unsafe(_)) => match database.policies().await {
            Ok(tables) => policies(name, &tables),
            Err(error) => Check::new(name, Mark::Failed, chain(&error)).run(error.advice()),
        },
        Err(_) => Check::new(name, Mark::Skipped, "the database is not migrated"),
    };
    [posture, policies]
}

/// Each table with its number of policies. One that lets rows through whoever asks is warned of, as it may be meant:
/// rows that are the same for all tenants can be protected by `is not null` instead.
fn policies(name: &'static str, tables: &[TablePolicies]) -> Check {
    if tables.is_empty() {
        return Check::new(name, Mark::Warning, "the reader may read no table")
            .run("grant select on <table> to rowgate_reader");
    }
    let open: Vec<_> = tables.iter().flat_map(|of| of.open.iter().map(|policy| (policy, &of.table))).collect();
    let counts: Vec<_> = tables.iter().map(|of| format!("{} {}", of.table, of.count)).collect();
    let counts = counts.join(", ");
    if open.is_empty() {
        return Check::new(name, Mark::Ok, format!("all by rowgate.visible_stores(): {counts}"));
    }
    let seen: Vec<_> = open.iter().map(|(policy, table)| format!("{policy} on {table}")).collect();
    let mend: Vec<_> = open
        .iter()
        .map(|(policy, table)| {
            format!(
                "alter policy {policy} on {table} using (store_id = any ((select rowgate.visible_stores())::integer[]))"
            )
        })
        .collect();
    Check::new(name, Mark::Warning, format!("not by rowgate.visible_stores(): {}; {counts}", seen.join(", "))).run(
        format!(
            "{}; or, where every known caller may see all rows, using ((select rowgate.visible_stores()) is not null)",
            mend.join("; ")
        ),
    )
}
