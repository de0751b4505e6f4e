//! What one caller sees: whether the database takes a claim for it, and how many rows of each table it may read.

use axum::http::{HeaderMap, HeaderValue};

use super::{Check, Mark, chain};
use crate::db::Db;
use crate::domain::{Principal, RowLimit};
use crate::identity::{Caller, DEVELOPMENT_HEADER, Verifier};

/// A caller who is only looked through.
pub(super) fn of_principal(principal: &Principal) -> Option<Caller> {
    let mut headers = HeaderMap::new();
    headers.insert(DEVELOPMENT_HEADER, HeaderValue::from_str(principal.as_str()).ok()?);
    let verifier = Verifier::trusted_header();
    futures_util::FutureExt::now_or_never(verifier.verify(&headers))?.ok()
}

/// Whether the database takes a claim, and what the caller sees.
pub(super) async fn claim(database: &Db, caller: Option<&Caller>) -> Vec<Check> {
    let name = "claim";
    let Some(caller) = caller else {
        return vec![Check::new(name, Mark::Skipped, "no caller was named").run("rowgate doctor --as <principal>")];
    };
    if let Err(error) = database.query(caller, "select 1", RowLimit::DEFAULT).await {
        return vec![Check::new(name, Mark::Failed, chain(&error)).run(error.advice())];
    }
    let mut checks = vec![Check::new(name, Mark::Ok, format!("{} is let in", caller.principal().as_str()))];
    match database.visible(caller).await {
        Ok(tables) => {
            let seen: Vec<_> = tables.iter().map(|(table, rows)| format!("{table} {rows}")).collect();
            let any = tables.iter().any(|(_, rows)| rows != "0");
            let check = Check::new("visible rows", if any { Mark::Ok } else { Mark::Warning }, seen.join(", "));
            checks.push(if any { check } else { check.run("rowgate principal add … --store <id>, or load data") });
        }
        Err(error) => checks.push(Check::new("visible rows", Mark::Failed, chain(&error)).run(error.advice())),
    }
    checks
}
