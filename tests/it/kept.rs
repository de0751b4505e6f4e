//! What a connection keeps from one call to the next is the caller's own, and never answers otherwise than asking anew.

use rowgate::db::{Db, Statement};
use rowgate::domain::RowLimit;
use serde_json::{Value, json};

use crate::support::{HEAD_OFFICE, KIRKLAND, SEATTLE, TestDatabase, caller};

/// The texts that the session shows, without the look itself.
const TEXTS: &str = "select statement from pg_prepared_statements where name ~ '^rowgate_statement'
                        and statement !~ 'pg_prepared' order by prepare_time";

async fn ask(db: &Db, who: &str, sql: &str) -> Vec<Vec<Value>> {
    db.query(&caller(who), sql, RowLimit::DEFAULT).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")).rows
}

/// A database with one connection to it, which has found out that nobody stands in between.
async fn one_connection() -> (TestDatabase, Db) {
    let database = TestDatabase::create().await;
    let db = database.open_with(&[("ROWGATE_POOL_SIZE", "1")], database.app());
    ask(&db, SEATTLE, "select 1").await;
    (database, db)
}

#[tokio::test]
async fn nobody_finds_what_another_caller_asked() {
    let (_database, db) = one_connection().await;
    let secret = "select 'a question of Seattle''s', count(*) from orders";
    let seattle = ask(&db, SEATTLE, secret).await;
    assert_eq!(ask(&db, SEATTLE, secret).await, seattle);
    let own = ask(&db, SEATTLE, TEXTS).await;
    assert!(own.len() == 1 && own[0][0].as_str().unwrap().contains("a question of Seattle"), "{own:?}");

    let look = Statement::unchecked(TEXTS);
    let seen = db.query_checked(&caller(KIRKLAND), &look, RowLimit::DEFAULT).await.unwrap();
    assert_eq!(seen.rows, Vec::<Vec<Value>>::new());
    // The same text is another caller's statement, and answers with that caller's rows.
    let kirkland = ask(&db, KIRKLAND, secret).await;
    assert_ne!(kirkland, seattle);
    for _ in 0..3 {
        assert_eq!(ask(&db, SEATTLE, secret).await, seattle);
        assert_eq!(ask(&db, KIRKLAND, secret).await, kirkland);
        assert_eq!(ask(&db, KIRKLAND, secret).await, kirkland);
    }
}

#[tokio::test]
async fn a_kept_statement_sees_what_has_changed() {
    let (database, db) = one_connection().await;
    let owner = database.superuser().await;
    let all = "select * from stores order by store_id limit 2";
    let columns = async || db.query(&caller(HEAD_OFFICE), all, RowLimit::DEFAULT).await.unwrap().columns.len();
    let before = (columns().await, columns().await);
    assert_eq!(before.0, before.1);
    owner.batch_execute("alter table retail.stores add column opened date").await.unwrap();
    assert_eq!((columns().await, columns().await), (before.0 + 1, before.0 + 1));
    owner.batch_execute("alter table retail.stores alter opened type text").await.unwrap();
    let answer = db.query(&caller(HEAD_OFFICE), all, RowLimit::DEFAULT).await.unwrap();
    assert_eq!(answer.columns.last().unwrap().type_name, "text");

    // Rows, and who may see them.
    let count = "select count(*) from orders";
    let mine = ask(&db, SEATTLE, count).await;
    assert_eq!(ask(&db, SEATTLE, count).await, mine);
    owner
        .batch_execute(
            "delete from retail.order_items where store_id = 1; delete from retail.orders where store_id = 1",
        )
        .await
        .unwrap();
    assert_eq!(ask(&db, SEATTLE, count).await, [[json!(0)]]);
    let policy = "create policy nothing on retail.stores as restrictive for select to rowgate_reader using (false)";
    owner.batch_execute(policy).await.unwrap();
    assert_eq!(ask(&db, HEAD_OFFICE, all).await.len(), 0);
    owner.batch_execute("drop policy nothing on retail.stores").await.unwrap();
    assert_eq!(ask(&db, HEAD_OFFICE, all).await.len(), 2);

    // Who is known no more is refused, whatever is kept.
    assert_eq!(ask(&db, KIRKLAND, count).await.len(), 1);
    let forget = format!("delete from rowgate.principals where principal = '{KIRKLAND}'");
    owner.batch_execute(&forget).await.unwrap();
    for sql in [count, "select 1"] {
        let refused = db.query(&caller(KIRKLAND), sql, RowLimit::DEFAULT).await.unwrap_err();
        assert!(matches!(refused, rowgate::db::DbError::UnknownCaller), "{refused:?}");
    }
}

#[tokio::test]
async fn mistakes_stay_mistakes_and_few_statements_are_kept() {
    let (database, db) = one_connection().await;
    for _ in 0..3 {
        let error = db.query(&caller(SEATTLE), "select 1 / (store_id - store_id) from orders", RowLimit::DEFAULT).await;
        assert!(matches!(error, Err(rowgate::db::DbError::Statement(ref mistake)) if mistake.sqlstate == "22012"));
        assert!(db.query(&caller(SEATTLE), "select no_such_column from orders", RowLimit::DEFAULT).await.is_err());
    }
    assert_eq!(ask(&db, SEATTLE, TEXTS).await.len(), 0);
    for n in 0..30 {
        assert_eq!(ask(&db, SEATTLE, &format!("select {n}")).await, [[json!(n)]]);
    }
    let kept = ask(&db, SEATTLE, TEXTS).await.len();
    assert!((1..8).contains(&kept), "{kept}");

    // Let go of behind our back.
    ask(&db, SEATTLE, "select 29").await;
    database.superuser().await.batch_execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'rowgate_app' and datname = current_database()").await.unwrap();
    assert_eq!(ask(&db, SEATTLE, "select 29").await, [[json!(29)]]);

    // The day on which it is read is the day that it means: asked anew each time.
    ask(&db, SEATTLE, "select date 'today'").await;
    let texts = ask(&db, SEATTLE, TEXTS).await;
    assert!(!texts.iter().any(|row| row[0].as_str().unwrap().contains("today")), "{texts:?}");
}
