//! How well search finds what is meant, on queries that were written before anyone looked at results. Prints the
//! figures of docs/search.md; the floors catch a change for the worse.

use serde::Deserialize;
use serde_json::json;

use crate::support::{HEAD_OFFICE, TestServer};

#[derive(Deserialize)]
struct Labelled {
    paraphrase: Vec<Query>,
    exact: Vec<Query>,
    mixed: Vec<Query>,
    nothing: Vec<Nothing>,
}

#[derive(Deserialize)]
struct Query {
    query: String,
    best: String,
    also: Vec<String>,
}

#[derive(Deserialize)]
struct Nothing {
    query: String,
}

/// Share of queries whose best (or as good) row is first, share with it among the first five, and the mean of the
/// reciprocal of its place.
#[derive(Debug)]
struct Quality {
    first: f64,
    five: f64,
    mrr: f64,
}

/// The codes that were found, in order, and their similarities in percent.
async fn found(server: &TestServer, query: &str, threshold: Option<f64>) -> Vec<(String, Option<f64>)> {
    let mut arguments = json!({ "query_description": query, "max_rows": 20 });
    if let Some(threshold) = threshold {
        arguments["similarity_threshold"] = json!(threshold);
    }
    let answer = server.call(Some(HEAD_OFFICE), "semantic_search_products", arguments).await.ok();
    let rows = answer["rows"].as_array().unwrap().iter();
    rows.map(|row| (row[1].as_str().unwrap().to_owned(), row.as_array().unwrap().last().unwrap().as_f64())).collect()
}

async fn quality(server: &TestServer, kind: &str, queries: &[Query], threshold: Option<f64>) -> Quality {
    let (mut first, mut five, mut mrr) = (0.0, 0.0, 0.0);
    for query in queries {
        let found = found(server, &query.query, threshold).await;
        let good = |code: &String| *code == query.best || query.also.contains(code);
        let place = found.iter().position(|(code, _)| good(code));
        first += f64::from(u8::from(place == Some(0)));
        five += f64::from(u8::from(place.is_some_and(|place| place < 5)));
        mrr += place.map_or(0.0, |place| 1.0 / (place + 1) as f64);
        if place != Some(0) {
            println!(
                "  {kind}: {:?} wants {}, place {:?}: {:?}",
                query.query,
                query.best,
                place.map(|p| p + 1),
                found.iter().take(3).collect::<Vec<_>>()
            );
        }
    }
    let count = queries.len() as f64;
    Quality { first: first / count, five: five / count, mrr: mrr / count }
}

#[tokio::test]
async fn what_is_meant_is_found() {
    let labelled: Labelled =
        toml::from_str(&std::fs::read_to_string("tests/data/search_queries.toml").unwrap()).unwrap();
    assert!(labelled.paraphrase.len() >= 60);
    let server = TestServer::start().await;
    let (mut told, mut failed) = (Vec::new(), false);
    for (kind, queries, floors) in [
        ("paraphrase", &labelled.paraphrase, (0.33, 0.65, 0.46)),
        ("exact", &labelled.exact, (0.97, 1.0, 0.98)),
        ("mixed", &labelled.mixed, (0.85, 0.95, 0.90)),
    ] {
        let quality = quality(&server, kind, queries, None).await;
        told.push(format!(
            "{kind:<10} {:>3} queries  recall@1 {:.2}  recall@5 {:.2}  MRR {:.2}",
            queries.len(),
            quality.first,
            quality.five,
            quality.mrr
        ));
        let (first, five, mrr) = floors;
        failed |= quality.first < first || quality.five < five || quality.mrr < mrr;
    }
    let mut most: Vec<f64> = Vec::new();
    for nothing in &labelled.nothing {
        most.push(found(&server, &nothing.query, Some(0.0)).await[0].1.unwrap());
    }
    most.sort_by(f64::total_cmp);
    told.push(format!("nothing    {:>3} queries  most similar row: {:?} %", most.len(), most));
    println!("{}", told.join("\n"));
    assert!(!failed, "below the floors:\n{}", told.join("\n"));
}
