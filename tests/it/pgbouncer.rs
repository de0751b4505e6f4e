//! TLS that is verified or not used at all, passwords that change, and PgBouncer in transaction mode.

use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all, ready};
use rowgate::config::Settings;
use rowgate::db::{Db, DbError, Password, PasswordSource, Statement};
use rowgate::domain::{Profile, RowLimit};
use rowgate::retail;
use serde_json::json;

use crate::support::azure::{Certificates, Flaw};
use crate::support::{
    Bouncing, CountingProxy, HEAD_OFFICE, KIRKLAND, PgBouncer, SEATTLE, TestDatabase, TestServer, caller, cluster,
};

const COUNT: &str = "select count(*) from orders";

/// Settings that verify TLS by an authority.
fn verifying(database: &TestDatabase, authority: &Certificates, more: &[(&str, &str)]) -> Settings {
    let file = authority.file().to_str().unwrap();
    database.settings(&[&[("ROWGATE_DATABASE_TLS", "on"), ("ROWGATE_DATABASE_ROOT_CERTIFICATES", file)], more].concat())
}

fn open(settings: &Settings, app: tokio_postgres::Config, password: Option<Arc<dyn PasswordSource>>) -> Db {
    let path = Profile::parse(retail::PROFILE).unwrap().search_path;
    let keys = Arc::new(cluster().keys.clone());
    Db::new(app, &settings.database, &settings.limits, &path, keys, password).unwrap()
}

async fn ask(db: &Db) -> Result<i64, DbError> {
    let answer = db.query(&caller(SEATTLE), COUNT, RowLimit::DEFAULT).await?;
    Ok(answer.rows.values()[0][0].as_i64().unwrap())
}

/// All that an error says, down to its root.
fn chain(error: &dyn Error) -> String {
    let mut told = error.to_string();
    let mut error = error;
    while let Some(source) = error.source() {
        told += &format!(": {source}");
        error = source;
    }
    told
}

fn pgbouncer() -> Option<PathBuf> {
    PgBouncer::installed()
}

#[tokio::test]
async fn a_server_that_can_not_be_verified_is_not_talked_to() {
    let Some(program) = pgbouncer() else { return };
    let database = TestDatabase::create().await;
    let authority = Certificates::new();
    let settings = verifying(&database, &authority, &[]);
    for (flaw, expected) in [
        (Flaw::None, None),
        (Flaw::WrongName, Some("NotValidForName")),
        (Flaw::Expired, Some("Expired")),
        (Flaw::UnknownAuthority, Some("BadSignature")),
    ] {
        let certificate = authority.files(&["localhost"], flaw);
        let bouncer = PgBouncer::start(&program, &database, &certificate, Bouncing::Scram, "secret", 2);
        let db = open(&settings, bouncer.config(&database, "secret"), None);
        match (ask(&db).await, expected) {
            (Ok(own), None) => assert!(own > 100),
            (Err(error), Some(expected)) => {
                assert!(matches!(error, DbError::Unreachable(_)), "{error:?}");
                let told = format!("{error:?}");
                assert!(told.contains(expected), "{told}");
                assert!(!told.contains("secret"), "{told}");
            }
            (outcome, _) => panic!("{flaw:?}: {outcome:?}"),
        }
        // The system's own roots know nothing of a private authority.
        if flaw == Flaw::None {
            let strict = database.settings(&[("ROWGATE_DATABASE_TLS", "on")]);
            let error = ask(&open(&strict, bouncer.config(&database, "secret"), None)).await.unwrap_err();
            assert!(format!("{error:?}").contains("UnknownIssuer"), "{error:?}");
            // A wrong password is told apart from wrong TLS.
            let wrong = ask(&open(&settings, bouncer.config(&database, "wrong"), None)).await.unwrap_err();
            assert!(chain(&wrong).contains("refused the connection"), "{wrong:?}");
        }
    }
}

#[tokio::test]
async fn there_is_no_way_down_from_tls() {
    let database = TestDatabase::create().await;
    let authority = Certificates::new();
    // The embedded PostgreSQL answers that it has no TLS; so would somebody in between who took it away.
    for mode in ["prefer", "disable", "require"] {
        let mut app = database.app();
        app.ssl_mode(match mode {
            "disable" => tokio_postgres::config::SslMode::Disable,
            "require" => tokio_postgres::config::SslMode::Require,
            _ => tokio_postgres::config::SslMode::Prefer,
        });
        let error = ask(&open(&verifying(&database, &authority, &[]), app, None)).await.unwrap_err();
        assert!(chain(&error).contains("TLS"), "{mode}: {}", chain(&error));
    }
}

#[tokio::test]
async fn everything_works_through_transaction_pooling() {
    let Some(program) = pgbouncer() else { return };
    let database = TestDatabase::create().await;
    let authority = Certificates::new();
    let certificate = authority.files(&["localhost"], Flaw::None);
    // Fewer connections to the server than clients, so that each transaction may run on another one.
    let bouncer = PgBouncer::start(&program, &database, &certificate, Bouncing::Scram, "secret", 2);
    let mut settings = verifying(&database, &authority, &[("ROWGATE_POOL_SIZE", "6")]);
    let direct = database.open();
    let config = bouncer.config(&database, "secret");
    let db = open(&settings, config.clone(), None);
    let mut expected = Vec::new();
    for who in [SEATTLE, KIRKLAND, HEAD_OFFICE] {
        expected.push((who, direct.query(&caller(who), COUNT, RowLimit::DEFAULT).await.unwrap().rows));
    }
    let calls = (0..90).map(|n| {
        let ((who, rows), db) = (&expected[n % 3], &db);
        async move {
            match n % 4 {
                // What goes wrong in one transaction stays in it.
                0 => assert!(db.query(&caller(who), "select 1 / 0", RowLimit::DEFAULT).await.is_err()),
                1 => {
                    let lock = Statement::unchecked("select pg_advisory_lock(7), set_config('a.b', 'left', false)");
                    let _ = db.query_checked(&caller(who), &lock, RowLimit::DEFAULT).await;
                }
                _ => assert_eq!(&db.query(&caller(who), COUNT, RowLimit::DEFAULT).await.unwrap().rows, rows),
            }
        }
    });
    join_all(calls).await;
    let left = "select (select count(*) from pg_locks where locktype = 'advisory'), current_setting('a.b', true), \
                (select count(*) from pg_prepared_statements where name <> 'rowgate_statement')";
    for _ in 0..6 {
        let answer = db.query(&caller(SEATTLE), left, RowLimit::DEFAULT).await.unwrap();
        assert_eq!(answer.rows.values()[0][0], json!(0));
        assert!(answer.rows.values()[0][1].is_null() || answer.rows.values()[0][1] == json!(""), "{:?}", answer.rows);
        assert_eq!(answer.rows.values()[0][2], json!(0));
    }

    // The tools, over HTTP.
    settings.database.app = Some(config);
    let server = TestServer::serve(database, settings).await;
    for (tool, arguments) in [
        ("get_multiple_table_schemas", json!({ "table_names": ["retail.orders", "retail.stores"] })),
        ("execute_sales_query", json!({ "postgresql_query": "select * from orders" })),
        ("semantic_search_products", json!({ "query_description": "something to cut wood with" })),
        ("find_similar_products", json!({ "product": "PL-FIT-01" })),
    ] {
        for _ in 0..3 {
            let reply = server.call(Some(SEATTLE), tool, arguments.clone()).await;
            assert!(!reply.is_error, "{tool}: {}", reply.text);
        }
    }
}

#[tokio::test]
async fn a_client_that_goes_away_stops_its_query_behind_pgbouncer_too() {
    let Some(program) = pgbouncer() else { return };
    let database = TestDatabase::create().await;
    let authority = Certificates::new();
    let certificate = authority.files(&["localhost"], Flaw::None);
    let bouncer = PgBouncer::start(&program, &database, &certificate, Bouncing::Scram, "secret", 1);
    let db = open(&verifying(&database, &authority, &[]), bouncer.config(&database, "secret"), None);
    ask(&db).await.unwrap();
    let endless = Statement::unchecked("select count(*) from generate_series(1, 1000000000000) -- endless");
    let seattle = caller(SEATTLE);
    let running = db.query_checked(&seattle, &endless, RowLimit::DEFAULT);
    assert!(tokio::time::timeout(Duration::from_millis(500), running).await.is_err());
    // The one connection to the server is free again: without the cancelling it would be busy until the time-out.
    assert!(tokio::time::timeout(Duration::from_secs(15), ask(&db)).await.unwrap().is_ok());
}

/// A call that waits in the pooler's queue hears nothing, and so does the connection that is made to find out why.
#[tokio::test]
async fn a_queue_is_not_taken_for_silence() {
    let Some(program) = pgbouncer() else { return };
    let database = TestDatabase::create().await;
    let authority = Certificates::new();
    let certificate = authority.files(&["localhost"], Flaw::None);
    let bouncer = PgBouncer::start(&program, &database, &certificate, Bouncing::Scram, "secret", 1);
    let proxy = CountingProxy::to(bouncer.port).await;
    let mut config = tokio_postgres::Config::new();
    config.host("localhost").port(proxy.port).user("rowgate_app").password("secret").dbname(&database.name);
    let db = open(&verifying(&database, &authority, &[("ROWGATE_POOL_WAIT_SECONDS", "60")]), config, None);
    ask(&db).await.unwrap();
    let (slow, office) = (Statement::unchecked("select pg_sleep(2)"), caller(HEAD_OFFICE));
    let (worked, waited) = tokio::join!(db.query_checked(&office, &slow, RowLimit::DEFAULT), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        ask(&db).await
    });
    assert!(worked.is_ok() && waited.is_ok(), "{worked:?} {waited:?}");
    // That of the first call, that of the second, and the one that was made to find out. No other took their place.
    assert_eq!(proxy.connections(), 3);
}

/// Passwords one after the other: the next when a fresh one is asked for.
struct Scripted {
    passwords: Mutex<Vec<&'static str>>,
    lasts: Option<Duration>,
    asked: AtomicUsize,
}

impl PasswordSource for Scripted {
    fn password(&self, fresh: bool) -> BoxFuture<'_, Result<Password, Box<dyn Error + Send + Sync>>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut passwords = self.passwords.lock().unwrap();
        if fresh && passwords.len() > 1 {
            passwords.remove(0);
        }
        let until = self.lasts.map(|lasts| SystemTime::now() + lasts);
        ready(Ok(Password { text: passwords[0].to_owned(), until })).boxed()
    }
}

#[tokio::test]
async fn a_password_that_changed_is_asked_for_again_once() {
    let Some(program) = pgbouncer() else { return };
    let database = TestDatabase::create().await;
    let authority = Certificates::new();
    let certificate = authority.files(&["localhost"], Flaw::None);
    let bouncer = PgBouncer::start(&program, &database, &certificate, Bouncing::Plain, "second", 2);
    let settings = verifying(&database, &authority, &[]);
    let source = |passwords: &[&'static str]| {
        Arc::new(Scripted { passwords: Mutex::new(passwords.to_vec()), lasts: None, asked: AtomicUsize::new(0) })
    };
    let rotated = source(&["first", "second"]);
    let db = open(&settings, bouncer.config(&database, "unused"), Some(rotated.clone()));
    assert!(ask(&db).await.is_ok());
    assert_eq!(rotated.asked.load(Ordering::SeqCst), 2);

    // Nothing helps, so it is tried twice and not for ever.
    let wrong = source(&["wrong", "worse"]);
    let db = open(&settings, bouncer.config(&database, "unused"), Some(wrong.clone()));
    assert!(matches!(ask(&db).await, Err(DbError::Unreachable(_))));
    assert_eq!(wrong.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_connection_is_not_used_beyond_the_end_of_its_password_or_its_time() {
    let database = TestDatabase::create().await;
    let proxy = CountingProxy::to(cluster().cluster.port()).await;
    let mut app = database.app();
    app.password(&cluster().app_password);
    let through = |app: &tokio_postgres::Config| {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(proxy.port).user("rowgate_app").dbname(app.get_dbname().unwrap());
        config
    };
    let password: &'static str = Box::leak(cluster().app_password.clone().into_boxed_str());
    for (lasts, expected) in [(Some(Duration::from_secs(30)), 4), (Some(Duration::from_secs(3600)), 1), (None, 1)] {
        let source = Arc::new(Scripted { passwords: Mutex::new(vec![password]), lasts, asked: AtomicUsize::new(0) });
        let db = open(&database.settings(&[]), through(&app), Some(source));
        proxy.connections();
        for _ in 0..4 {
            ask(&db).await.unwrap();
        }
        // Half a minute is within the minute that is kept clear of the end, so each call has a connection of its own.
        assert_eq!(proxy.connections(), expected, "{lasts:?}");
    }
}
