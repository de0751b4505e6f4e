//! Which role may do what with which table, read from the catalog: a table or a role that nobody thought of shows up.

use crate::support::TestDatabase;

#[tokio::test]
async fn roles_tables_and_verbs_are_those_of_the_golden_file() {
    let database = TestDatabase::create().await;
    let superuser = database.superuser().await;
    let rows = superuser
        .query(
            "select format('%-44s %-15s %s', format('%s.%s', n.nspname, c.relname), r.rolname,
                    coalesce(nullif(concat_ws(' ',
                        case when has_table_privilege(r.oid, c.oid, 'select') then 'select' end,
                        case when has_table_privilege(r.oid, c.oid, 'insert') then 'insert' end,
                        case when has_table_privilege(r.oid, c.oid, 'update') then 'update' end,
                        case when has_table_privilege(r.oid, c.oid, 'delete') then 'delete' end,
                        case when has_table_privilege(r.oid, c.oid, 'truncate') then 'truncate' end,
                        case when has_table_privilege(r.oid, c.oid, 'references') then 'references' end,
                        case when has_table_privilege(r.oid, c.oid, 'trigger') then 'trigger' end), ''), '-'))
               from pg_class c
               join pg_namespace n on n.oid = c.relnamespace
              cross join pg_roles r
              where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
                and r.rolname like 'rowgate\\_%' and r.rolname <> 'rowgate_admin' and r.rolname not like '%\\_test\\_%'
              order by 1",
            &[],
        )
        .await
        .unwrap();
    let matrix: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    insta::assert_snapshot!("grants", matrix.join("\n"));
}

#[tokio::test]
async fn every_table_that_the_reader_may_read_is_protected_and_forced() {
    let database = TestDatabase::create().await;
    let superuser = database.superuser().await;
    let rows = superuser
        .query(
            "select c.oid::regclass::text,
                    c.relrowsecurity and c.relforcerowsecurity
                    and exists (select from pg_policy p where p.polrelid = c.oid and p.polcmd = 'r'
                                   and 'rowgate_reader'::regrole = any (p.polroles)),
                    pg_get_userbyid(c.relowner)::text
               from pg_class c
              where c.relkind in ('r', 'p', 'v', 'm', 'f') and has_table_privilege('rowgate_reader', c.oid, 'select')
                and c.relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(rows.len(), 9);
    for row in rows {
        let (table, protected, owner): (String, bool, String) = (row.get(0), row.get(1), row.get(2));
        assert!(protected, "{table}");
        assert_eq!(owner, "rowgate_owner", "{table}");
    }
}

#[tokio::test]
async fn nobody_in_the_request_path_is_more_than_a_reader() {
    let database = TestDatabase::create().await;
    let superuser = database.superuser().await;
    let roles = superuser
        .query(
            "select rolname::text, rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication or rolinherit, rolcanlogin,
                    array(select format('%s', roleid::regrole) from pg_auth_members where member = r.oid order by 1)
               from pg_roles r where rolname in ('rowgate_owner', 'rowgate_reader', 'rowgate_app') order by 1",
            &[],
        )
        .await
        .unwrap();
    let roles: Vec<(String, bool, bool, Vec<String>)> =
        roles.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect();
    let role = |name: &str, login: bool, member_of: &[&str]| {
        (name.to_owned(), false, login, member_of.iter().map(|m| (*m).to_owned()).collect::<Vec<_>>())
    };
    let expected = [
        role("rowgate_app", true, &["rowgate_reader"]),
        role("rowgate_owner", false, &[]),
        role("rowgate_reader", false, &[]),
    ];
    assert_eq!(roles, expected);
    // The functions that run as the owner are not for everybody.
    let functions = superuser
        .query(
            "select p.proname::text, has_function_privilege('public', p.oid, 'execute'),
                    has_function_privilege('rowgate_reader', p.oid, 'execute'), has_function_privilege('rowgate_app', p.oid, 'execute'),
                    p.proconfig::text
               from pg_proc p where p.prosecdef and p.oid >= 16384 order by 1",
            &[],
        )
        .await
        .unwrap();
    let functions: Vec<(String, bool, bool, bool, String)> =
        functions.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4))).collect();
    let path = "{\"search_path=pg_catalog, pg_temp\"}".to_owned();
    assert_eq!(
        functions,
        [
            ("admit".to_owned(), false, false, true, path.clone()),
            (
                "visible_stores".to_owned(),
                false,
                true,
                false,
                path.replace('}', ",plan_cache_mode=force_generic_plan}")
            )
        ]
    );
}
