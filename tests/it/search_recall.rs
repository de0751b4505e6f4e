//! Search finds what a comparison of every row would: exactly on the sample, for every store, filter and threshold, and
//! nearly where there are too many rows to compare.

use std::collections::BTreeSet;

use rowgate::db::{Found, Search, Target};
use rowgate::domain::{FilterValue, SearchText};
use rowgate::embedding::Embedder;
use serde_json::{Value, json};

use crate::search::{Does, Scripted, column, profile_with, run, search};
use crate::support::{HEAD_OFFICE, SEATTLE, TestDatabase, TestServer, caller, cluster, stores};

#[tokio::test]
async fn every_store_filter_and_threshold_gets_what_comparing_every_row_gives() {
    let server = TestServer::start().await;
    let superuser = server.database.superuser().await;
    // Some of each store's stock runs out.
    superuser
        .batch_execute("update retail.inventory set stock_level = 0 where (product_id * 7 + store_id * 3) % 5 < 2")
        .await
        .unwrap();
    let filters: &[(Value, &str)] = &[
        (json!({}), "true"),
        (json!({ "category": "plumbing" }), "c.category_name = 'PLUMBING'"),
        (json!({ "min_price": 20, "max_price": 40.5 }), "p.base_price between 20 and 40.5"),
        (
            json!({ "in_stock_only": true }),
            "exists (select from retail.inventory i where i.product_id = p.product_id and i.stock_level > 0 and $stores)",
        ),
        (json!({ "in_stock_only": false }), "true"),
        (
            json!({ "category": "GARDEN & OUTDOOR", "max_price": 30, "in_stock_only": true }),
            "c.category_name = 'GARDEN & OUTDOOR' and p.base_price <= 30 and exists (select from retail.inventory i where i.product_id = p.product_id and i.stock_level > 0 and $stores)",
        ),
    ];
    let mut callers =
        stores().into_iter().map(|(id, principal)| (principal, format!("i.store_id = {id}"))).collect::<Vec<_>>();
    callers.push((HEAD_OFFICE.to_owned(), "true".to_owned()));
    let query = "keep young plants watered while nobody is at home";
    let vector = cluster().embedder.embed(&[query.to_owned()]).await.unwrap().vectors.remove(0);
    let vector = format!("[{}]", vector.iter().map(f32::to_string).collect::<Vec<_>>().join(","));
    let percent = |similarity: f64| json!((similarity * 1000.0).round() / 10.0);
    let mut sizes = BTreeSet::new();
    for (principal, own) in &callers {
        for (arguments, condition) in filters {
            let truth = format!(
                "select p.sku, (select coalesce(sum(i.stock_level), 0)::int8 from retail.inventory i where i.product_id = p.product_id and {own}),
                        1 - (e.description_embedding <=> '{vector}')
                   from retail.products p join retail.categories c using (category_id)
                   join retail.product_description_embeddings e using (product_id)
                  where {} order by e.description_embedding <=> '{vector}' limit 100",
                condition.replace("$stores", own)
            );
            let truth = superuser.query(&truth, &[]).await.unwrap();
            for threshold in [0.0, 15.0, 25.0, 30.0, 40.0, 60.0] {
                let similar = truth.iter().filter(|row| row.get::<_, f64>(2) >= threshold / 100.0);
                let expected: Vec<_> = similar
                    .map(|row| (json!(row.get::<_, String>(0)), json!(row.get::<_, i64>(1)), percent(row.get(2))))
                    .collect();
                let mut asked = arguments.clone();
                asked["query_description"] = json!(query);
                asked["similarity_threshold"] = json!(threshold);
                asked["max_rows"] = json!(100);
                let answer = search(&server, principal, asked).await;
                let [sku, stock, similarity] = ["sku", "stock", "similarity"].map(|name| column(&answer, name));
                let found: Vec<_> = sku.into_iter().zip(stock).zip(similarity).map(|((a, b), c)| (a, b, c)).collect();
                assert_eq!(found, expected, "{principal} {arguments} {threshold}");
                sizes.insert(found.len());
            }
        }
    }
    // The filters and thresholds do narrow what is found, from all that is answered at most to nothing.
    assert!(sizes.len() > 10 && sizes.contains(&0) && sizes.contains(&100), "{sizes:?}");
}

/// Beyond what is compared row by row, the index is scanned on until enough rows have passed, or every row is compared.
#[tokio::test]
async fn the_index_loses_no_rows_to_a_filter() {
    let database = TestDatabase::create().await;
    let mut admin = database.superuser().await;
    admin
        .batch_execute(
            "insert into retail.products (product_id, sku, product_name, category_id, type_id, cost, base_price, gross_margin_percent, product_description)
             select n, 'X-' || n, 'Thing ' || n, 1 + n % 9, 1, 1, n % 100, 33, 'Thing number ' || n from generate_series(1001, 19000) n;
             analyze retail.products",
        )
        .await
        .unwrap();
    let profile = profile_with("scripted", 8);
    let scripted = Scripted::new("scripted", 8, Does::Hash);
    assert_eq!(run(&mut admin, &profile, &scripted, false).await.total, 18_441);

    let db = database.open();
    let source = profile.search.as_ref().unwrap();
    let model = source.models.iter().find(|model| model.name == "scripted").unwrap();
    let find = async |text: &str, target: Target<'_>, price: Option<f64>| {
        let text = SearchText::parse(text).unwrap();
        let filters = price.map(|price| (1, FilterValue::Number(price))).into_iter().collect();
        db.search(&caller(SEATTLE), &Search { source, model, text: &text, target, filters }).await.unwrap()
    };
    let truth = async |vector: &[f32], price: Option<f64>| -> Vec<String> {
        let vector = vector.iter().map(f32::to_string).collect::<Vec<_>>().join(",");
        let price = price.unwrap_or_default();
        let truth = format!(
            "select sku from retail.products join retail.product_description_embeddings e using (product_id)
              where e.model = 'scripted' and base_price >= {price} order by e.description_embedding <=> '[{vector}]' limit 100"
        );
        admin.query(&truth, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    };
    let codes = |found: Vec<Found>| found.into_iter().map(|row| row.code).collect::<Vec<_>>();

    // All rows, nine in ten, more than are compared one by one either, and one in a hundred.
    for price in [None, Some(10.0), Some(99.0)] {
        let mut hits = 0;
        for query in ["one", "two", "three", "four", "five"] {
            let vector = scripted.embed(&[query.to_owned()]).await.unwrap().vectors.remove(0);
            let found = codes(find(query, Target::Vector(&vector), price).await);
            assert_eq!(found.len(), 100);
            hits += truth(&vector, price).await.iter().take(10).filter(|code| found[..10].contains(code)).count();
        }
        println!("recall@10 against comparing every row, price from {price:?}: {hits} of 50");
        assert!(hits >= 49, "{price:?}: {hits} of 50");
    }

    // The row itself has no distance from itself.
    let (near, itself): (Vec<_>, Vec<_>) =
        find("X-1999", Target::Like, Some(10.0)).await.into_iter().partition(|row| row.similarity.is_some());
    assert_eq!((near.len(), codes(itself)), (100, vec!["X-1999".to_owned()]));
    assert!(!codes(near).contains(&"X-1999".to_owned()));
    assert_eq!(find("X-0", Target::Like, Some(10.0)).await, []);

    // Where the index can not give enough, every row is compared.
    admin
        .batch_execute(
            "delete from retail.product_description_embeddings where model = 'scripted' and product_id % 333 <> 0",
        )
        .await
        .unwrap();
    let vector = scripted.embed(&["six".to_owned()]).await.unwrap().vectors.remove(0);
    let all = truth(&vector, Some(10.0)).await;
    assert!(all.len() > 40 && all.len() < 100, "{}", all.len());
    assert_eq!(codes(find("six", Target::Vector(&vector), Some(10.0)).await), all);
}
