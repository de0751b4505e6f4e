//! Migrations run as an administrator like a cloud's, in order, once, all or nothing, and notice what was tampered with.

use indicatif::ProgressBar;
use rowgate::db::admin::Admin;
use rowgate::db::migrate::{MigrateError, migrate};
use rowgate::domain::RowLimit;
use rowgate::retail::{self, Scale, Seeded};

use crate::support::{SEATTLE, TestDatabase, caller, cluster};

/// An administrator of a new database who is no superuser.
async fn administrator(with_vector: bool) -> (TestDatabase, Admin) {
    let database = TestDatabase::empty().await;
    let superuser = database.superuser().await;
    superuser.make_administrator("rowgate_admin", "administrator", &database.name).await.unwrap();
    if with_vector {
        superuser.create_vector_extension().await.unwrap();
    }
    // What the template was made with is still needed by other tests, so the password of the run is set again.
    let config = cluster().cluster.login("rowgate_admin", "administrator", &database.name);
    let admin = Admin::connect(&config).await.unwrap();
    (database, admin)
}

#[tokio::test]
async fn an_administrator_who_is_no_superuser_can_migrate_and_seed() {
    let (database, mut admin) = administrator(true).await;
    let first = migrate(&mut admin, Some("retail"), Some(&cluster().keys)).await.unwrap();
    assert_eq!((first.applied.len(), first.total), (7, 7));
    let again = migrate(&mut admin, Some("retail"), Some(&cluster().keys)).await.unwrap();
    assert_eq!((again.applied.len(), again.total), (0, 7));

    let scale = Scale::parse("0.002").unwrap();
    let bar = ProgressBar::hidden();
    assert!(
        matches!(retail::seed(&mut admin, scale, false, &bar).await.unwrap(), Seeded::Loaded { rows } if rows > 3_000)
    );
    assert_eq!(retail::seed(&mut admin, scale, false, &bar).await.unwrap(), Seeded::AlreadyThere);
    let count = "select count(*) from retail.customers";
    let superuser = database.superuser().await;
    assert_eq!(superuser.query_one(count, &[]).await.unwrap().get::<_, i64>(0), 100);
    retail::seed(&mut admin, Scale::parse("0.004").unwrap(), true, &bar).await.unwrap();
    assert_eq!(superuser.query_one(count, &[]).await.unwrap().get::<_, i64>(0), 200);

    let answer =
        database.open().query(&caller(SEATTLE), "select count(*) from orders", RowLimit::DEFAULT).await.unwrap();
    assert!(answer.rows.values()[0][0].as_i64() > Some(50));
}

#[tokio::test]
async fn the_core_stands_without_the_sample() {
    let (_, mut admin) = administrator(false).await;
    let migrated = migrate(&mut admin, None, None).await.unwrap();
    assert_eq!(
        migrated.applied,
        ["core/0001_roles", "core/0002_caller", "core/0003_principals", "core/0004_one_look", "core/0005_plain_digits"]
    );
    assert!(matches!(migrate(&mut admin, Some("other"), None).await, Err(MigrateError::NoSuchSet(_))));
}

#[tokio::test]
async fn a_failure_changes_nothing() {
    // pgvector is missing, so the third migration fails: the first two are gone with it.
    let (database, mut admin) = administrator(false).await;
    let failed = migrate(&mut admin, Some("retail"), Some(&cluster().keys)).await;
    assert!(matches!(failed, Err(MigrateError::Vector(_))), "{failed:?}");
    let superuser = database.superuser().await;
    let left: i64 = superuser
        .query_one("select count(*) from pg_namespace where nspname in ('rowgate', 'retail')", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(left, 0);
    superuser.create_vector_extension().await.unwrap();
    assert_eq!(migrate(&mut admin, Some("retail"), None).await.unwrap().applied.len(), 7);
}

#[tokio::test]
async fn two_at_once_do_it_once() {
    let (database, mut one) = administrator(true).await;
    let config = cluster().cluster.login("rowgate_admin", "administrator", &database.name);
    let mut other = Admin::connect(&config).await.unwrap();
    let (one, other) = tokio::join!(migrate(&mut one, Some("retail"), None), migrate(&mut other, Some("retail"), None));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(one.applied.len() + other.applied.len(), 7);
    assert_eq!((one.total, other.total), (7, 7));
}

#[tokio::test]
async fn an_edited_unknown_or_missing_migration_is_refused() {
    let database = TestDatabase::create().await;
    let mut superuser = database.superuser().await;
    let tampered = async |superuser: &mut Admin, sql: &str| {
        superuser.batch_execute(sql).await.unwrap();
        migrate(superuser, Some("retail"), None).await
    };
    let outcome =
        tampered(&mut superuser, "update rowgate.migrations set checksum = 'x' where name = 'core/0002_caller'").await;
    assert!(matches!(outcome, Err(MigrateError::Edited(name)) if name == "core/0002_caller"));
    let outcome = tampered(&mut superuser, "insert into rowgate.migrations values ('core/9999_later', 'x')").await;
    assert!(matches!(outcome, Err(MigrateError::Unknown(name)) if name == "core/9999_later"));

    let database = TestDatabase::create().await;
    let mut superuser = database.superuser().await;
    let outcome = tampered(&mut superuser, "delete from rowgate.migrations where name = 'retail/0001_schema'").await;
    assert!(matches!(outcome, Err(MigrateError::Gap("retail/0001_schema"))), "{outcome:?}");
}

#[tokio::test]
async fn a_role_that_row_level_security_does_not_bind_is_refused() {
    let database = TestDatabase::empty().await;
    let superuser = database.superuser().await;
    for right in ["bypassrls", "superuser"] {
        // In a transaction that is never committed: the roles are everybody's.
        superuser.batch_execute(&format!("begin; alter role rowgate_app {right}")).await.unwrap();
        let refused = superuser.batch_execute(include_str!("../../migrations/core/0001_roles.sql")).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "RG010");
        superuser.batch_execute("rollback").await.unwrap();
    }
}
