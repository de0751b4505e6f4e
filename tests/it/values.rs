//! Values come through exactly, whatever their type.

use rowgate::domain::RowLimit;
use serde_json::{Value, json};

use crate::support::{SEATTLE, TestDatabase, caller};

#[tokio::test]
async fn every_type_is_exact() {
    let database = TestDatabase::create().await;
    let superuser = database.superuser().await;
    superuser
        .batch_execute(
            "create schema shapes; grant usage on schema shapes to rowgate_reader;
             create type shapes.mood as enum ('sad', 'ok', 'it''s fine');
             create type shapes.pair as (a int, b text);
             create domain shapes.positive as int check (value > 0);
             create domain shapes.tags as text[];",
        )
        .await
        .unwrap();
    let db = database.open();
    let cases: &[(&str, &str, Value)] = &[
        ("true", "bool", json!(true)),
        ("32767::int2", "int2", json!(32767)),
        ("'-2147483648'::int4", "int4", json!(-2_147_483_648_i64)),
        ("9007199254740991::int8", "int8", json!(9_007_199_254_740_991_i64)),
        ("9007199254740993::int8", "int8", json!("9007199254740993")),
        ("1.1::float4", "float4", json!(1.1)),
        ("0.1::float8 + 0.2::float8", "float8", json!(0.300_000_000_000_000_04)),
        ("'NaN'::float8", "float8", json!("NaN")),
        ("'-infinity'::float8", "float8", json!("-Infinity")),
        ("12.50::numeric", "numeric", json!(12.5)),
        ("1234567890.12345678901::numeric", "numeric", json!("1234567890.12345678901")),
        ("'NaN'::numeric", "numeric", json!("NaN")),
        ("null::int", "int4", Value::Null),
        ("null", "text", Value::Null),
        ("''", "text", json!("")),
        ("E'tab\\there, \"quotes\" and \\\\ é 🦀'", "text", json!("tab\there, \"quotes\" and \\ é 🦀")),
        ("'x'::char(3)", "bpchar", json!("x  ")),
        ("date '2026-02-28'", "date", json!("2026-02-28")),
        ("date 'infinity'", "date", json!("infinity")),
        ("date '0044-03-15 BC'", "date", json!("0044-03-15 BC")),
        ("time '13:14:15.000001'", "time", json!("13:14:15.000001")),
        ("timestamptz '2026-01-02 03:04:05.6+02'", "timestamptz", json!("2026-01-02 01:04:05.6+00")),
        ("timestamp '-infinity'", "timestamp", json!("-infinity")),
        ("interval '1 year 2 days -3:04:05'", "interval", json!("1 year 2 days -03:04:05")),
        ("'\\x00ff'::bytea", "bytea", json!("\\x00ff")),
        ("'b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid", "uuid", json!("b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")),
        ("'10.0.0.0/8'::cidr", "cidr", json!("10.0.0.0/8")),
        ("'{\"a\": [1, 2.50, null], \"b\": \"x\"}'::jsonb", "jsonb", json!({"a": [1, 2.5, null], "b": "x"})),
        ("'{\"a\": 12345678901234567890}'::jsonb", "jsonb", json!("{\"a\": 12345678901234567890}")),
        ("'{\"a\":1,\"a\":2}'::json", "json", json!("{\"a\":1,\"a\":2}")),
        ("array[1, null, 3]", "int4[]", json!([1, null, 3])),
        ("array[[1, 2], [3, 4]]", "int4[]", json!([[1, 2], [3, 4]])),
        ("'[0:1]={7,8}'::int[]", "int4[]", json!("[0:1]={7,8}")),
        ("array['a,b', 'NULL', null, '\"', '']", "text[]", json!(["a,b", "NULL", null, "\"", ""])),
        ("array[12.50, 'NaN']::numeric[]", "numeric[]", json!([12.5, "NaN"])),
        ("array['{\"a\": 1}'::jsonb]", "jsonb[]", json!([{"a": 1}])),
        ("array[box '(1,2),(3,4)']", "_box", json!("{(3,4),(1,2)}")),
        ("int4range(1, 5)", "int4range", json!("[1,5)")),
        ("'{[1,3),[5,7)}'::int4multirange", "int4multirange", json!("{[1,3),[5,7)}")),
        ("point '(1,2)'", "point", json!("(1,2)")),
        ("'a fat cat'::tsvector", "tsvector", json!("'a' 'cat' 'fat'")),
        ("b'101'::bit(3)", "bit", json!("101")),
        ("12.34::money", "money", json!("$12.34")),
        ("'it''s fine'::shapes.mood", "mood", json!("it's fine")),
        ("array['sad'::shapes.mood]", "mood[]", json!(["sad"])),
        ("row(1, 'a b')::shapes.pair", "pair", json!("(1,\"a b\")")),
        ("row(1, 'x')", "record", json!("(1,x)")),
        ("7::shapes.positive", "int4", json!(7)),
        ("array['a', 'b']::shapes.tags", "text[]", json!(["a", "b"])),
        ("'[1,2.5,-0.125]'::vector", "vector", json!([1, 2.5, -0.125])),
        ("'[1,2]'::halfvec", "halfvec", json!([1, 2])),
        ("'{1:1.5}/3'::sparsevec", "sparsevec", json!("{1:1.5}/3")),
        ("xmlparse(content '<a/>')", "xml", json!("<a/>")),
    ];
    for (expression, type_name, value) in cases {
        // The embedded PostgreSQL is built without libxml, and an old pgvector has but one type.
        let there = format!("select to_regtype('{type_name}') is not null and '{type_name}' <> 'xml'");
        let optional = ["xml", "halfvec", "sparsevec"].contains(type_name);
        if optional && !superuser.query_one(&there, &[]).await.unwrap().get::<_, bool>(0) {
            continue;
        }
        let answer = db.query(&caller(SEATTLE), &format!("select {expression} as v"), RowLimit::DEFAULT).await;
        let answer = answer.unwrap_or_else(|error| panic!("{expression}: {error:?}"));
        assert_eq!(
            (answer.columns[0].type_name.as_str(), &answer.rows.values()[0][0]),
            (*type_name, value),
            "{expression}"
        );
        assert_eq!(answer.rows.values()[0][0].is_i64(), value.is_i64(), "{expression}");
    }
}

#[tokio::test]
async fn columns_are_there_without_rows_and_with_equal_names() {
    let database = TestDatabase::create().await;
    let db = database.open();
    let columns = async |sql: &str| {
        let answer = db.query(&caller(SEATTLE), sql, RowLimit::DEFAULT).await.unwrap();
        let columns = answer.columns.into_iter().map(|c| format!("{} {}", c.name, c.type_name)).collect::<Vec<_>>();
        (columns.join(", "), answer.rows.len(), answer.truncated)
    };
    assert_eq!(columns("select 1 as a, 'x' as a where false").await, ("a int4, a text".to_owned(), 0, None));
    assert_eq!(
        columns("select store_id, store_id, * from stores").await.0,
        "store_id int4, store_id int4, store_id int4, store_name text, is_online bool"
    );
    assert_eq!(columns("select").await, (String::new(), 1, None));
    assert_eq!(columns("values (1, 2), (3, 4)").await, ("column1 int4, column2 int4".to_owned(), 2, None));
    assert_eq!(columns("table stores").await.1, 8);
    assert_eq!(columns("with s as (select 1 as one) select * from s").await, ("one int4".to_owned(), 1, None));
    assert_eq!(columns("select 'a' as \"odd \"\"name\"\"\" -- and a comment").await.0, "odd \"name\" text");
    assert_eq!(columns("select 1 /* a; */ ; ").await.1, 1);
    assert_eq!(columns("(select 1 union all select 2) order by 1 desc").await.1, 2);
}

#[tokio::test]
async fn order_is_kept() {
    let database = TestDatabase::create().await;
    let answer = database
        .open()
        .query(&caller(SEATTLE), "select n from generate_series(1, 50) n order by n % 7 desc, n", RowLimit::DEFAULT)
        .await
        .unwrap();
    let numbers: Vec<i64> = answer.rows.values().iter().map(|row| row[0].as_i64().unwrap()).collect();
    let mut sorted = numbers.clone();
    sorted.sort_by_key(|n| (-(n % 7), *n));
    assert_eq!(numbers, sorted);
}
