//! A database whose protection has a hole is not served from, and the log says what mends it. And the record of a call,
//! and the room that a caller has.

use futures_util::future::join_all;
use rowgate::db::{Db, DbError};
use rowgate::domain::RowLimit;
use serde_json::json;

use crate::support::{HEAD_OFFICE, KIRKLAND, SEATTLE, TestDatabase, TestServer, caller, cluster};

async fn problems(db: &Db) -> Vec<(String, String)> {
    match db.query(&caller(SEATTLE), "select 1", RowLimit::DEFAULT).await {
        Ok(_) => Vec::new(),
        Err(DbError::Unsafe(problems)) => problems.into_iter().map(|problem| (problem.what, problem.mend)).collect(),
        Err(error) => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn every_hole_is_found_and_what_is_said_mends_it() {
    let database = TestDatabase::create().await;
    let superuser = database.superuser().await;
    assert_eq!(problems(&database.open()).await, []);
    for (hole, what) in [
        (
            "alter table retail.orders disable row level security",
            "retail.orders has no row-level security that binds its owner too",
        ),
        (
            "alter table retail.orders no force row level security",
            "retail.orders has no row-level security that binds its owner too",
        ),
        (
            "create table retail.notes (note text); grant select on retail.notes to rowgate_reader",
            "retail.notes has no row-level security that binds its owner too",
        ),
        (
            "create table public.open (note text); grant select (note) on public.open to public",
            "public.open has no row-level security that binds its owner too",
        ),
        ("grant insert on retail.orders to rowgate_reader", "rowgate_reader may write to retail.orders"),
        ("grant update (sku) on retail.products to rowgate_app", "rowgate_app may write to retail.products"),
        ("grant delete on retail.stores to public", "rowgate_app may write to retail.stores"),
        ("alter table retail.notes owner to rowgate_app", "retail.notes belongs to rowgate_app"),
        (
            "create view retail.all_orders as select * from retail.orders; grant select on retail.all_orders to rowgate_reader",
            "the view retail.all_orders shows what its owner may see",
        ),
        (
            "create materialized view retail.sums as select count(*) from retail.orders; grant select on retail.sums to rowgate_reader",
            "retail.sums can be read and can have no row-level security",
        ),
    ] {
        superuser.batch_execute(hole).await.unwrap();
        let found = problems(&database.open()).await;
        assert!(found.iter().any(|(said, _)| said == what), "{hole}: {found:?}");
        // One mend can show the next hole, such as the policy that is missing.
        for _ in 0..4 {
            for (_, mend) in problems(&database.open()).await {
                superuser.batch_execute(&mend).await.unwrap_or_else(|error| panic!("{mend}: {error:?}"));
            }
        }
        assert_eq!(problems(&database.open()).await, [], "{hole}");
    }
}

#[tokio::test]
async fn functions_and_roles_that_are_not_the_migrated_ones_are_found() {
    let database = TestDatabase::create().await;
    let superuser = database.superuser().await;
    for hole in [
        "alter function rowgate.visible_stores() security invoker",
        "alter function rowgate.visible_stores() reset search_path",
        "alter function rowgate.admit(text) owner to postgres",
        "create or replace function rowgate.visible_stores() returns integer[] language sql stable parallel safe
            security definer set search_path = pg_catalog, pg_temp as 'select array[1, 2, 3]'",
    ] {
        let database = TestDatabase::create().await;
        database.superuser().await.batch_execute(hole).await.unwrap();
        let found = problems(&database.open()).await;
        assert_eq!(found.len(), 1, "{hole}: {found:?}");
        assert!(found[0].0.ends_with("is not the one that was migrated"), "{found:?}");
    }
    // A login role of this test's own: the others' is everybody's.
    let role = format!("posture_{}", database.name);
    for (rights, what) in [
        ("superuser", format!("the role {role} is a superuser")),
        ("nosuperuser bypassrls", format!("the role {role} has BYPASSRLS")),
        ("nosuperuser nobypassrls in role rowgate_owner", format!("{role} may act as the tables' owner")),
    ] {
        superuser.batch_execute(&format!("create role {role} login password 'posture' {rights}")).await.unwrap();
        superuser.batch_execute(&format!("grant rowgate_app to {role}")).await.unwrap();
        let app = cluster().cluster.login(&role, "posture", &database.name);
        let found = problems(&database.open_with(&[], app)).await;
        superuser.batch_execute(&format!("drop role {role}")).await.unwrap();
        assert!(found.iter().any(|(said, _)| *said == what), "{rights}: {found:?}");
    }
}

#[tokio::test]
async fn a_client_is_told_nothing_of_the_hole() {
    let server = TestServer::start().await;
    let superuser = server.database.superuser().await;
    superuser.batch_execute("alter table retail.orders disable row level security").await.unwrap();
    let told = server.sql(SEATTLE, "select 1").await.error();
    assert!(told.starts_with("The server refuses to show any data") && !told.contains("orders"), "{told}");
    let ready = server.client.get(format!("{}/readyz", server.url)).send().await.unwrap();
    assert_eq!(ready.status(), 503);
    superuser.batch_execute("alter table retail.orders enable row level security").await.unwrap();
    assert_eq!(server.sql(SEATTLE, "select 1").await.ok()["rows"], json!([[1]]));
}

#[tokio::test]
async fn a_caller_with_too_many_calls_starves_nobody() {
    let server = TestServer::start_with(&[
        ("ROWGATE_POOL_SIZE", "2"),
        ("ROWGATE_CALLS_PER_CALLER", "6"),
        ("ROWGATE_POOL_WAIT_SECONDS", "1"),
        ("ROWGATE_STATEMENT_SECONDS", "20"),
    ])
    .await;
    server.sql(SEATTLE, "select 1").await.ok();
    let slow = "select count(*) from generate_series(1, 4000000) a";
    let greedy = join_all((0..12).map(|_| server.sql(SEATTLE, slow)));
    let patient = async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        for _ in 0..5 {
            assert_eq!(server.sql(KIRKLAND, "select 1").await.ok()["rows"], json!([[1]]));
        }
    };
    let (greedy, ()) = tokio::join!(greedy, patient);
    let refused = greedy.iter().filter(|reply| reply.is_error).count();
    assert!(refused >= 6, "{refused}");
    for reply in greedy.iter().filter(|reply| reply.is_error) {
        assert!(reply.text.starts_with("You have too many calls at once"), "{}", reply.text);
    }
    assert_eq!(server.sql(HEAD_OFFICE, "select 1").await.ok()["rows"], json!([[1]]));
}
