//! What each effect means, exactly. An effect is something that PostgreSQL lets a statement do or see although the
//! statement harms no row: it is known, it is bounded, and docs/security.md has it.

use std::time::Duration;

use rowgate::db::{Answer, Db};
use rowgate::domain::RowLimit;
use rowgate::identity::Caller;
use serde_json::{Value, json};

use super::corpus::Effect;
use super::watch::{NEIGHBOUR, Sight, Watch};
use crate::support::{SEATTLE, TestDatabase};

/// A call that had an effect.
pub(super) struct Seen<'a> {
    pub(super) answer: Option<&'a Answer>,
    pub(super) took: Duration,
    pub(super) limit: Duration,
    pub(super) before: &'a Sight,
    pub(super) after: &'a Sight,
}

impl Effect {
    /// Whether it is just what is known of it.
    pub(super) async fn is_as_known(
        self,
        seen: &Seen<'_>,
        watch: &mut Watch,
        database: &TestDatabase,
        db: &Db,
        caller: &Caller,
    ) -> Result<(), String> {
        let text = seen.answer.map(|answer| json!(answer.rows.values()).to_string()).unwrap_or_default();
        let next =
            async |sql: &str| db.query(caller, sql, RowLimit::DEFAULT).await.unwrap().rows.values()[0][0].clone();
        let known = match self {
            // Another call's statement is cancelled, or its connection ended; the other caller tries again.
            Self::Cancelled | Self::Ended => {
                watch.neighbour_ends().await;
                let ended = watch.neighbour_ended(database).await;
                ended.as_deref() == Some(if self == Self::Cancelled { "57014" } else { "57P01" })
            }
            // The caller reads its own claim, which is good for minutes and for a direct connection only.
            Self::Claim => text.contains("v2.") && text.contains(SEATTLE),
            // The statement has no place at which PostgreSQL looks whether it should stop, so it stops after its work.
            Self::Late => seen.took > seen.limit + seen.limit / 4,
            // The text of a statement that another connection of the login role runs at this moment.
            Self::Neighbour => text.contains(NEIGHBOUR),
            // The name, not the value, of a setting of one's own outlives the transaction on this connection.
            Self::Placeholder => next("select current_setting('hostile.mark', true)").await == json!(""),
            // The next call's random numbers on this connection are known before it asks.
            Self::Seed => next("select random()").await.as_f64() == Some(watch.random_after_seed().await),
            // How many rows a table has over all callers.
            Self::Totals => {
                let all = watch.rows_of("retail.orders").await;
                seen.answer.and_then(|answer| answer.rows.values()[0][0].as_i64()) == Some(all)
                    && next("select count(*) from orders").await.as_i64() < Some(all)
            }
            // Bytes in the log of writes that no rollback takes back.
            Self::Wal => seen.after.wal - seen.before.wal >= 1_000_000,
            // A transaction's id is used up.
            Self::Xid => seen.after.xid > seen.before.xid,
        };
        let told = || seen.answer.map_or(Value::Null, |answer| json!(answer.rows.values())).to_string();
        if known { Ok(()) } else { Err(format!("{self:?} is not as known: {:?}, {}", seen.took, told())) }
    }
}
