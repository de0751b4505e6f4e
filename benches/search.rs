//! Recall and latency of filtered search on catalogues of 10,000 and 100,000 rows, in one run beside comparing every row.
//! `cargo bench --bench search`, or `scripts/bench --search`; nearly all of its time goes into the index.
#![allow(clippy::disallowed_methods, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "`support` is the integration tests', and this needs little of it"
)]

#[path = "../tests/it/support/mod.rs"]
mod support;

use std::ops::Range;
use std::time::{Duration, Instant};

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use rowgate::db::admin::Admin;
use rowgate::db::{Db, Search, Target, vectors};
use rowgate::domain::{FilterValue, Profile, SearchModel, SearchSource, SearchText};
use rowgate::embedding::Embedder;
use rowgate::retail;
use support::{SEATTLE, TestDatabase, caller, cluster};

const SIZES: [usize; 2] = [10_000, 100_000];
const QUERIES: usize = 60;

#[tokio::main]
async fn main() {
    let database = TestDatabase::create().await;
    let mut admin = database.superuser().await;
    let profile = Profile::parse(retail::PROFILE).unwrap();
    let source = profile.search.as_ref().unwrap();
    let model = &source.models[0];
    let db = database.open();

    let labelled: toml::Table =
        toml::from_str(&std::fs::read_to_string("tests/data/search_queries.toml").unwrap()).unwrap();
    let queries: Vec<String> = labelled["paraphrase"]
        .as_array()
        .unwrap()
        .iter()
        .map(|q| q["query"].as_str().unwrap().to_owned())
        .take(QUERIES)
        .collect();
    let embedder = &cluster().embedder;
    embedder.embed(&queries[..1]).await.unwrap();
    let mut embedding = Vec::new();
    let mut asked = Vec::new();
    for query in &queries {
        let started = Instant::now();
        asked.push(embedder.embed(std::slice::from_ref(query)).await.unwrap().vectors.remove(0));
        embedding.push(started.elapsed());
    }
    println!("embedding a query: {}", spread(embedding));

    println!("\nthe sample's 441 rows");
    measure(
        &db,
        &mut admin,
        &profile,
        &queries,
        &asked,
        &[("all rows", None), ("1 in 9, a category", Some((0, FilterValue::Text("PLUMBING".into()))))],
    )
    .await;

    let real = admin
        .query("select description_embedding::text from retail.product_description_embeddings order by product_id", &[])
        .await
        .unwrap();
    let real: Vec<Vec<f32>> = real.iter().map(|row| serde_json::from_str(row.get(0)).unwrap()).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut rows = 0;
    for size in SIZES {
        println!(
            "\n{size} rows: mixtures of the sample's vectors with some noise; a price filter that some of them pass"
        );
        let started = Instant::now();
        grow(&mut admin, source, model, &real, rows..size, &mut rng).await;
        rows = size;
        println!("stored, and the index made anew: {:.0} s", started.elapsed().as_secs_f64());
        let over = |price: f64| Some((1, FilterValue::Number(price)));
        measure(
            &db,
            &mut admin,
            &profile,
            &queries,
            &asked,
            &[
                ("all rows", None),
                ("50 %", over(1050.0)),
                ("20 %", over(1080.0)),
                ("10 %", over(1090.0)),
                ("1 %", over(1099.0)),
            ],
        )
        .await;
    }
}

/// Adds rows to the catalogue, with vectors.
async fn grow(
    admin: &mut Admin,
    source: &SearchSource,
    model: &SearchModel,
    real: &[Vec<f32>],
    rows: Range<usize>,
    rng: &mut ChaCha8Rng,
) {
    admin
        .batch_execute(&format!(
            "insert into retail.products (product_id, sku, product_name, category_id, type_id, cost, base_price, gross_margin_percent, product_description)
             select n, 'X-' || n, 'Thing ' || n, 1 + n % 9, 1, 1, 1000 + n % 100, 33, 'Thing number ' || n
               from generate_series({}, {}) n",
            1_001 + rows.start,
            1_000 + rows.end
        ))
        .await
        .unwrap();
    // Made anew below: many times faster than keeping it up to date row by row.
    admin
        .batch_execute(
            "do $$ begin
                execute coalesce((select string_agg(format('drop index retail.%I', indexname), '; ')
                                    from pg_indexes where schemaname = 'retail' and indexdef like '%USING hnsw%'), '');
             end $$",
        )
        .await
        .unwrap();
    let pending = vectors::pending(admin, source, model, false).await.unwrap();
    for batch in pending.chunks(1_000) {
        let noisy = batch.iter().enumerate().map(|(n, _)| {
            // Between two rows of the sample, as the things of a larger catalogue are, with some noise.
            let (one, other) = (&real[n % real.len()], &real[rng.random_range(0..real.len())]);
            let part = rng.random_range(0.0..0.5);
            let mixed = one.iter().zip(other).map(|(a, b)| a * (1.0 - part) + b * part + rng.random_range(-0.01..0.01));
            let vector: Vec<f32> = mixed.collect();
            let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
            vector.into_iter().map(|x| x / length).collect()
        });
        vectors::store(admin, source, model, batch, noisy.collect()).await.unwrap();
    }
    vectors::index(admin, source, model).await.unwrap();
    admin.batch_execute("analyze retail.products, retail.product_description_embeddings").await.unwrap();
}

async fn measure(
    db: &Db,
    admin: &mut Admin,
    profile: &Profile,
    queries: &[String],
    asked: &[Vec<f32>],
    filters: &[(&str, Option<(usize, FilterValue)>)],
) {
    let source = profile.search.as_ref().unwrap();
    let model = &source.models[0];
    let seattle = caller(SEATTLE);
    for (label, filter) in filters {
        let condition = match filter {
            None => "true".to_owned(),
            Some((0, FilterValue::Text(category))) => format!("c.category_name = '{category}'"),
            Some((_, FilterValue::Number(price))) => format!("p.base_price >= {price}"),
            Some(_) => unreachable!(),
        };
        let (mut hits, mut all, mut taken, mut compared) = (0, 0, Vec::new(), Vec::new());
        for (query, vector) in queries.iter().zip(asked) {
            let text = SearchText::parse(query).unwrap();
            let wanted = Search {
                source,
                model,
                text: &text,
                target: Target::Vector(vector),
                filters: filter.iter().cloned().collect(),
            };
            let started = Instant::now();
            let found = db.search(&seattle, &wanted).await.unwrap();
            taken.push(started.elapsed());

            let written = format!("[{}]", vector.iter().map(f32::to_string).collect::<Vec<_>>().join(","));
            let started = Instant::now();
            // The cast to the undimensioned type keeps the index out.
            let truth = format!(
                "select p.sku from {} join retail.product_description_embeddings e on e.product_id = p.product_id
                  where e.model = $1 and {condition} order by e.description_embedding <=> '{written}' limit 10",
                source.source
            );
            let truth = admin.query(&truth, &[&model.name]).await.unwrap();
            compared.push(started.elapsed());
            let first: Vec<&str> = found.iter().take(10).map(|row| row.code.as_str()).collect();
            hits += truth.iter().filter(|row| first.contains(&row.get(0))).count();
            all += truth.len();
        }
        println!(
            "  {label:<20} recall@10 {:.3}   {}   comparing every row: {}",
            hits as f64 / all as f64,
            spread(taken),
            spread(compared)
        );
    }
}

fn spread(mut taken: Vec<Duration>) -> String {
    taken.sort();
    let at = |part: f64| taken[((taken.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    format!("p50 {:.1} ms, p99 {:.1} ms", at(0.5), at(0.99))
}
