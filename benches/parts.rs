//! Parts of a call that need no client and no connection, each on its own: signing a claim, checking a statement, turning
//! rows into JSON, writing the result, writing schemas. `cargo bench --features fuzzing --bench parts`.
#![allow(clippy::disallowed_methods, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used)]
#![allow(dead_code, unreachable_pub, unused_imports)]

#[path = "../tests/it/support/mod.rs"]
mod support;

use std::collections::HashSet;
use std::hint::black_box;
use std::time::SystemTime;

use criterion::Criterion;
use rowgate::db::{Answer, Column, Described, Statement, fuzzing as db};
use rowgate::domain::Profile;
use rowgate::identity::{Claim, SigningKey};
use rowgate::mcp::fuzzing as mcp;
use rowgate::retail;
use support::{SEATTLE, TestDatabase, caller};

const QUERY: &str = "select sale_id, sold_on, product, quantity, unit_price, discount, total from retail.sales
    where store_id = 1 and sold_on >= '2024-03-01' and sold_on < '2024-04-01' and quantity >= 2
    order by total desc, sale_id limit 20";

/// Columns: name, PostgreSQL's type, what `db::fuzzing::write` calls it, and a value.
const COLUMNS: [(&str, &str, u8, &str); 7] = [
    ("sale_id", "int4", 2, "81088"),
    ("sold_on", "date", 10, "2024-03-08"),
    ("product", "text", 10, "Chainsaw 14 in, 40V Cordless"),
    ("quantity", "int4", 2, "4"),
    ("unit_price", "numeric", 6, "208.21"),
    ("discount", "numeric", 6, "0.00"),
    ("total", "numeric", 6, "832.84"),
];

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let key = SigningKey::parse(&SigningKey::generate("k1").unwrap()).unwrap();
    let seattle = caller(SEATTLE);
    criterion.bench_function("sign a claim", |bencher| bencher.iter(|| Claim::sign(&key, &seattle, SystemTime::now())));

    // As many names as PostgreSQL has volatile functions.
    let volatile: HashSet<String> = (0..700).map(|n| format!("volatile_function_{n}")).collect();
    criterion.bench_function("check a statement", |bencher| {
        bencher.iter(|| Statement::check(black_box(QUERY), &volatile).unwrap());
    });

    criterion.bench_function("values of 20 rows of 7 columns into JSON", |bencher| {
        bencher.iter(|| {
            let mut json = String::new();
            for (_, _, of, text) in std::iter::repeat_n(COLUMNS, 20).flatten() {
                db::write(of, black_box(text), &mut json);
            }
            json
        });
    });

    let row = COLUMNS.map(|(_, _, of, text)| {
        let mut json = String::new();
        db::write(of, text, &mut json);
        serde_json::from_str(&json).unwrap()
    });
    let row = Vec::from(row);
    let column = |(name, type_name, ..): &(&str, &str, u8, &str)| Column {
        name: (*name).into(),
        type_name: (*type_name).into(),
    };
    let answer =
        Answer { columns: COLUMNS.iter().map(column).collect(), rows: db::rows(&vec![row; 20]), truncated: None };
    criterion.bench_function("the result of 20 rows", |bencher| {
        bencher.iter_batched(
            || answer.clone(),
            |answer| mcp::result(answer).unwrap(),
            criterion::BatchSize::SmallInput,
        );
    });

    let (described, profile) = described();
    criterion.bench_function("schemas of eight tables", |bencher| bencher.iter(|| mcp::schemas(&described, &profile)));
    criterion.final_summary();
}

/// The sample's tables, as the database has them.
fn described() -> (Described, Profile) {
    let profile = Profile::parse(retail::PROFILE).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let described = runtime.block_on(async {
        let db = TestDatabase::create().await.open();
        let all = |catalog: &rowgate::db::Catalog| catalog.tables().iter().map(|table| table.name.clone()).collect();
        db.describe(&caller(SEATTLE), &profile.value_hints, all).await.unwrap()
    });
    (described, profile)
}
