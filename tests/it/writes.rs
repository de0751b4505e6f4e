//! Nothing is written, whatever the statement: PostgreSQL refuses by itself, with the courtesy check switched off.

use rowgate::db::{DbError, Statement};
use rowgate::domain::RowLimit;

use crate::support::{HEAD_OFFICE, TestDatabase, caller, cluster};

/// A fingerprint of everything that a statement could have changed.
const STATE: &str = "
select md5(concat(
    (select string_agg(x::text, ',' order by order_item_id) from retail.order_items x),
    (select string_agg(x::text, ',' order by customer_id) from retail.customers x),
    (select string_agg(x::text, ',' order by product_id) from retail.products x),
    (select string_agg(x::text, ',' order by store_id) from retail.stores x),
    (select string_agg(concat(relname, relkind, relacl, relrowsecurity), ',' order by oid) from pg_class where relnamespace::regnamespace::text !~ '^pg_t'),
    (select string_agg(concat(proname, prosrc), ',' order by oid) from pg_proc where oid >= 16384),
    (select string_agg(concat(rolname, rolsuper, rolbypassrls), ',' order by rolname) from pg_roles where rolname !~ '^test_'),
    (select string_agg(concat(seqrelid, (pg_sequence_last_value(seqrelid))), ',' order by seqrelid) from pg_sequence),
    (select count(*) from pg_largeobject_metadata), (select count(*) from pg_prepared_xacts)))";

const WRITES: &[&str] = &[
    "insert into retail.stores (store_name) values ('x')",
    "update retail.products set cost = 0",
    "delete from retail.order_items",
    "merge into retail.stores s using (values (1)) v (id) on s.store_id = v.id when matched then delete",
    "truncate retail.order_items",
    "with gone as (delete from retail.order_items returning *) select * from gone",
    "select * from (with gone as (delete from retail.order_items returning *) select * from gone) x",
    "select 1) r; delete from retail.order_items; select * from (select 1",
    "select 1; delete from retail.order_items",
    "select 1 into retail.x",
    "select * into temp x from retail.stores",
    "create table retail.x (a int)",
    "create temp table x (a int)",
    "create function retail.f() returns int language sql as 'select 1'",
    "drop table retail.order_items",
    "alter table retail.orders disable row level security",
    "alter role rowgate_app superuser",
    "create role intruder login",
    "grant all on all tables in schema retail to public",
    "copy retail.stores to program 'touch /tmp/x'",
    "copy retail.stores from stdin",
    "do $$ begin delete from retail.order_items; end $$",
    "call pg_catalog.pg_stat_reset()",
    "explain analyze delete from retail.order_items",
    "begin; delete from retail.order_items; commit",
    "commit; delete from retail.order_items",
    "rollback",
    "prepare x as delete from retail.order_items",
    "execute rowgate_statement",
    "deallocate all",
    "set role rowgate_owner",
    "reset role",
    "set session authorization postgres",
    "set transaction read write",
    "vacuum",
    "analyze retail.orders",
    "reindex table retail.orders",
    "checkpoint",
    "listen x",
    "notify x",
    "lock table retail.orders",
    "security label on table retail.orders is 'x'",
    "comment on table retail.orders is 'x'",
    "refresh materialized view x",
    "select nextval('retail.stores_store_id_seq')",
    "select setval('retail.stores_store_id_seq', 9000)",
    "select lo_create(4711)",
    "select lo_from_bytea(4712, 'x')",
    "select lo_import('/etc/passwd')",
    "select lo_export(1, '/tmp/x')",
    "select pg_read_file('/etc/passwd')",
    "select pg_ls_dir('/')",
    "select pg_reload_conf()",
    "select pg_rotate_logfile()",
    "select pg_create_restore_point('x')",
    "select pg_promote()",
    "select query_to_xml('delete from retail.order_items', true, true, '')",
    "select query_to_xml('create table retail.x (a int)', true, true, '')",
    "select ts_stat('delete from retail.order_items')",
    "select * from ts_stat('delete from retail.order_items')",
    "select xmlelement(name x, query_to_xml('truncate retail.orders', true, true, ''))",
    "select set_config('transaction_read_only', 'off', true), query_to_xml('delete from retail.order_items', true, true, '')",
    "select set_config('session_replication_role', 'replica', true)",
    "select * from retail.orders for update",
    "select * from retail.orders for share",
    "select pg_stat_reset(), pg_stat_reset_shared('bgwriter')",
    "select pg_replication_origin_create('x')",
    "select pg_create_logical_replication_slot('x', 'pgoutput')",
];

#[tokio::test]
async fn postgresql_by_itself_refuses_every_kind_of_write() {
    let database = TestDatabase::create().await;
    let db = database.open_with(&[("ROWGATE_POOL_SIZE", "1")], database.app());
    let superuser = database.superuser().await;
    let office = caller(HEAD_OFFICE);
    let state = async || -> String { superuser.query_one(STATE, &[]).await.unwrap().get(0) };
    let before = state().await;
    let version: i32 =
        superuser.query_one("select current_setting('server_version_num')::int", &[]).await.unwrap().get(0);
    for sql in WRITES {
        let outcome = db.query_checked(&office, &Statement::unchecked(sql), RowLimit::DEFAULT).await;
        // PostgreSQL 15 lets large objects be made in a READ ONLY transaction; they go with its rollback.
        let lets_it = version < 160_000 && sql.contains("lo_");
        assert!(lets_it || matches!(outcome, Err(DbError::Statement(_))), "{sql}: {outcome:?}");
        assert_eq!(state().await, before, "{sql}");
    }
    // The fingerprint would have told.
    superuser.execute("update retail.products set cost = cost + 0.01 where product_id = 1", &[]).await.unwrap();
    assert_ne!(state().await, before);
}

#[tokio::test]
async fn the_courtesy_check_says_why_before_postgresql_has_to() {
    let database = TestDatabase::create().await;
    let db = database.open();
    let office = caller(HEAD_OFFICE);
    for sql in [
        "select pg_sleep(1)",
        "select pg_terminate_backend(1)",
        "select pg_advisory_lock(1)",
        "select set_config('a.b', 'c', true)",
        "select nextval('x')",
        "select lo_create(1)",
        "select query_to_xml('select 1', true, true, '')",
        "select pg_notify('a', 'b')",
        "select \"pg_sleep\"(1)",
        "select pg_catalog.pg_sleep (1)",
        "delete from orders",
        "select 1; select 2",
        "select $1",
        "select U&\"pg_sl\\0065ep\"(1)",
    ] {
        let outcome = db.query(&office, sql, RowLimit::DEFAULT).await;
        assert!(matches!(outcome, Err(DbError::Refused(_))), "{sql}: {outcome:?}");
    }
    // Functions made after the start are known after a while; those of before, at once.
    assert_eq!(cluster().keys.iter().count(), 1);
    db.query(&office, "select random(), gen_random_uuid(), clock_timestamp(), now()", RowLimit::DEFAULT).await.unwrap();
}
