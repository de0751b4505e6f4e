//! The caller can not be forged, neither from the statement nor with another claim, and a statement leaves nothing
//! behind for the next one. All with the courtesy check switched off: this is what PostgreSQL holds by itself.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use rowgate::db::{Db, DbError, Statement};
use rowgate::domain::RowLimit;
use rowgate::identity::{Caller, Claim, SigningKey, SigningKeys};
use serde_json::json;
use tokio_postgres::NoTls;

use crate::support::{HEAD_OFFICE, KIRKLAND, NOBODY, SEATTLE, TestDatabase, caller, cluster};

const COUNT: &str = "select count(*) from retail.orders";

fn sign(caller: &Caller) -> Claim {
    Claim::sign(cluster().keys.newest(), caller, SystemTime::now())
}

/// How many orders a transaction with this claim sees, as the login role turned reader; or the error's code.
async fn orders_with(database: &TestDatabase, claim: &str) -> Result<i64, String> {
    let (client, connection) = database.app().connect(NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client.batch_execute("begin read only").await.unwrap();
    client.execute("select set_config('rowgate.claim', $1, true)", &[&claim]).await.unwrap();
    client.batch_execute("set local role rowgate_reader").await.unwrap();
    let counted = client.query_one(COUNT, &[]).await;
    connection.abort();
    counted.map(|row| row.get(0)).map_err(|error| error.code().unwrap().code().to_owned())
}

#[tokio::test]
async fn only_a_claim_that_is_signed_known_and_current_counts() {
    let database = TestDatabase::create().await;
    let seattle = caller(SEATTLE);
    let good = sign(&seattle);
    let good = good.expose();
    let own = orders_with(&database, good).await.unwrap();
    assert!(own > 100);
    let all = orders_with(&database, sign(&caller(HEAD_OFFICE)).expose()).await.unwrap();
    assert!(all > own);

    let code = async |claim: &str| orders_with(&database, claim).await.unwrap_err();
    // Another caller's id under one's own signature, a longer life, another nonce, another version or key.
    for (from, to) in [(SEATTLE, HEAD_OFFICE), ("v2.", "v1."), ("v2.dev.", "v2..")] {
        let forged = good.replacen(from, to, 1);
        assert_ne!(forged, good);
        let expected = if to == "v2.." { "RG004" } else { "RG002" };
        assert_eq!(code(&forged).await, expected, "{to}");
    }
    let parts: Vec<&str> = good.split('.').collect();
    for part in [3, 4, 5, 6] {
        let mut forged: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
        let last = forged[part].pop().unwrap();
        forged[part].push(if last == '1' { '2' } else { '1' });
        assert_eq!(code(&forged.join(".")).await, "RG002", "part {part}");
    }
    // No claim, half a claim, garbage, and a signature in other dress.
    let upper = format!("{}.{}", parts[..6].join("."), parts[6].to_uppercase());
    for claim in [
        "",
        ".",
        "......",
        "v2.dev......",
        &good[..good.len() - 1],
        &format!("{good}0"),
        &format!("{good}."),
        &upper,
        "ä.ö.ü.ß.é.ñ.€",
    ] {
        assert!(["RG002", "RG004"].contains(&code(claim).await.as_str()), "{claim}");
    }
    // The right shape under a key that the database does not have, and under its key's id with another secret.
    for id in ["other", "dev"] {
        let key =
            SigningKey::parse(&format!("{id}:{}", base64::engine::general_purpose::STANDARD.encode([9; 32]))).unwrap();
        let forged = Claim::sign(&key, &seattle, SystemTime::now());
        assert_eq!(code(forged.expose()).await, if id == "dev" { "RG002" } else { "RG004" });
    }
    assert_eq!(code(sign(&caller(NOBODY)).expose()).await, "RG001");
}

#[tokio::test]
async fn a_claim_ends_and_can_not_be_replayed_after_its_end() {
    let database = TestDatabase::create().await;
    let claim =
        Claim::sign_until(cluster().keys.newest(), &caller(SEATTLE), SystemTime::now() + Duration::from_secs(2));
    assert!(orders_with(&database, claim.expose()).await.is_ok());
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(orders_with(&database, claim.expose()).await.unwrap_err(), "RG003");
    let past = Claim::sign_until(cluster().keys.newest(), &caller(SEATTLE), SystemTime::UNIX_EPOCH);
    assert_eq!(orders_with(&database, past.expose()).await.unwrap_err(), "RG003");
}

#[tokio::test]
async fn two_keys_overlap_while_they_rotate() {
    let database = TestDatabase::create().await;
    let new = SigningKey::generate("next").unwrap();
    let both = SigningKeys::parse(&format!("{new},{}", cluster().key_text)).unwrap();
    let [new, old]: [&SigningKey; 2] = both.iter().collect::<Vec<_>>().try_into().unwrap();
    let only = SigningKeys::parse(&SigningKey::generate("other").unwrap()).unwrap();
    let accept = async |keys: &SigningKeys| {
        let mut superuser = database.superuser().await;
        rowgate::db::migrate::migrate(&mut superuser, Some("retail"), Some(keys)).await.unwrap();
    };
    let with = async |key: &SigningKey| {
        orders_with(&database, Claim::sign(key, &caller(SEATTLE), SystemTime::now()).expose()).await
    };
    assert_eq!(with(new).await.unwrap_err(), "RG004");
    accept(&both).await;
    assert_eq!(with(new).await.unwrap(), with(old).await.unwrap());
    accept(&only).await;
    assert!(with(only.newest()).await.is_ok());
    for retired in [new, old] {
        assert_eq!(with(retired).await.unwrap_err(), "RG004");
    }
}

#[tokio::test]
async fn a_statement_can_lose_rows_but_never_win_any() {
    let database = TestDatabase::create().await;
    // One connection, so that each statement meets what the one before it left.
    let db = database.open_with(&[("ROWGATE_POOL_SIZE", "1")], database.app());
    let seattle = caller(SEATTLE);
    let own = db.query(&seattle, COUNT, RowLimit::DEFAULT).await.unwrap().rows.values();
    let kirkland = db.query(&caller(KIRKLAND), COUNT, RowLimit::DEFAULT).await.unwrap().rows.values();
    assert!(kirkland[0][0].as_i64() < own[0][0].as_i64());

    // The claim of Kirkland's own, as if it had leaked to it by `current_setting`, and unsigned ones.
    let leaked = sign(&caller(KIRKLAND));
    let office = format!("v2.dev.{HEAD_OFFICE}.-.99999999999.00.{}", "0".repeat(64));
    for claim in [office.as_str(), "", "v2", leaked.expose()] {
        for local in ["true", "false"] {
            let set = format!("set_config('rowgate.claim', '{claim}', {local})");
            for sql in [
                format!("select {set}, (select count(*) from retail.orders)"),
                format!(
                    "with c as materialized (select {set} as s) select s, (select count(*) from retail.orders) from c"
                ),
                format!(
                    "with c as materialized (select {set} as s) select c.s, count(*) from c, retail.orders group by 1"
                ),
                format!(
                    "select x.s, o.n from (select {set} as s) x, lateral (select count(*) as n from retail.orders where x.s is not null) o"
                ),
                format!("select max(s), count(*) from retail.orders, lateral (select {set} as s where order_id > 0) x"),
                format!("select count(*) filter (where {set} is not null), count(*) from retail.orders"),
                format!("select case when {set} is null then 0 else (select count(*) from retail.orders) end, 0"),
            ] {
                let outcome = db.query_checked(&seattle, &Statement::unchecked(&sql), RowLimit::DEFAULT).await;
                if let Ok(answer) = &outcome {
                    let most = own[0][0].as_i64().unwrap();
                    for value in answer.rows.values().iter().flatten().filter_map(serde_json::Value::as_i64) {
                        assert!(value <= most, "{sql}: {value} of {most}");
                    }
                }
                // What it did ends with it, even what it did to the session.
                assert_eq!(
                    db.query(&seattle, COUNT, RowLimit::DEFAULT).await.unwrap().rows.values(),
                    own,
                    "after {sql}"
                );
                assert_eq!(
                    db.query(&caller(KIRKLAND), COUNT, RowLimit::DEFAULT).await.unwrap().rows.values(),
                    kirkland,
                    "after {sql}"
                );
            }
        }
    }
}

#[tokio::test]
async fn another_role_is_no_way_out() {
    let database = TestDatabase::create().await;
    let db = database.open_with(&[("ROWGATE_POOL_SIZE", "1")], database.app());
    let seattle = caller(SEATTLE);
    let own = db.query(&seattle, COUNT, RowLimit::DEFAULT).await.unwrap().rows.values();
    for role in ["none", "rowgate_app", "rowgate_owner", "rowgate_admin", "postgres", "pg_read_all_data"] {
        for local in ["true", "false"] {
            for setting in ["role", "session_authorization"] {
                let set = format!("set_config('{setting}', '{role}', {local})");
                for sql in [
                    format!("select {set}, (select count(*) from retail.orders)"),
                    format!(
                        "with c as materialized (select {set} as s) select s, (select count(*) from retail.orders) from c"
                    ),
                    format!(
                        "with c as materialized (select {set} as s) select s, (select count(*) from rowgate.claim_keys) from c"
                    ),
                ] {
                    let outcome = db.query_checked(&seattle, &Statement::unchecked(&sql), RowLimit::DEFAULT).await;
                    if let Ok(answer) = &outcome {
                        assert_eq!(answer.rows.values()[0][1], own[0][0], "{sql}");
                    }
                    assert_eq!(
                        db.query(&seattle, COUNT, RowLimit::DEFAULT).await.unwrap().rows.values(),
                        own,
                        "after {sql}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn what_a_statement_does_to_its_session_ends_with_it() {
    let database = TestDatabase::create().await;
    let db = database.open_with(&[("ROWGATE_POOL_SIZE", "1")], database.app());
    let seattle = caller(SEATTLE);
    let look = "select current_setting('datestyle'), current_setting('timezone'), current_setting('search_path'),
                       current_setting('client_encoding'), current_setting('row_security'), current_setting('role'),
                       current_setting('statement_timeout'), current_setting('transaction_read_only'),
                       current_setting('default_transaction_read_only'), current_user, date '2026-01-31', 'é',
                       (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()),
                       (select count(*) from pg_prepared_statements)";
    let before = db.query(&seattle, look, RowLimit::DEFAULT).await.unwrap().rows.values();
    for sql in [
        "select set_config('datestyle', 'german', false), set_config('timezone', 'Asia/Tokyo', false)",
        "select set_config('search_path', 'pg_temp', false), set_config('row_security', 'off', false)",
        "select set_config('client_encoding', 'LATIN1', false)",
        "select set_config('statement_timeout', '0', false), set_config('default_transaction_read_only', 'off', false)",
        "select set_config('role', 'none', false)",
        "select set_config('role', 'rowgate_reader', false)",
        "select pg_advisory_lock(4711), pg_advisory_lock_shared(4712)",
        "select query_to_xml('prepare rowgate_statement as select 1', true, true, '')",
        "select set_config('transaction_read_only', 'off', true)",
        "select set_config('no.such', 'x', false), 1 / 0",
    ] {
        let _ = db.query_checked(&seattle, &Statement::unchecked(sql), RowLimit::DEFAULT).await;
        assert_eq!(db.query(&seattle, look, RowLimit::DEFAULT).await.unwrap().rows.values(), before, "after {sql}");
    }
}

#[tokio::test]
async fn other_sessions_statements_are_hidden() {
    let database = TestDatabase::create().await;
    let db = database.open();
    let (seattle, office) = (caller(SEATTLE), caller(HEAD_OFFICE));
    let slow = Statement::unchecked("select pg_sleep(2), 'the secret of head office'");
    let look = "select count(*), count(*) filter (where query like '%secret%') from pg_stat_activity where pid <> pg_backend_pid() and datname = current_database()";
    let (_, seen) = tokio::join!(db.query_checked(&office, &slow, RowLimit::DEFAULT), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        db.query(&seattle, look, RowLimit::DEFAULT).await.unwrap()
    });
    assert!(seen.rows.values()[0][0].as_i64() >= Some(1), "{seen:?}");
    assert_eq!(seen.rows.values()[0][1], json!(0));
}

#[tokio::test]
async fn a_server_with_a_key_that_the_database_does_not_know_says_so_and_shows_nothing() {
    let database = TestDatabase::create().await;
    let settings = database.settings(&[]);
    let stray = Arc::new(SigningKeys::parse(&SigningKey::generate("stray").unwrap()).unwrap());
    let keys = Arc::new(stray);
    let db = Db::new(database.app(), &settings.database, &settings.limits, &[], keys, None).unwrap();
    let outcome = db.query(&caller(SEATTLE), "select 1", RowLimit::DEFAULT).await;
    assert!(matches!(outcome, Err(DbError::UnknownKey(_))), "{outcome:?}");
}
