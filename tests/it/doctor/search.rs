//! The vectors that search needs: their index, and whether it finds what comparing every row finds.

use std::path::PathBuf;

use rowgate::dev;

use super::{Said, with};
use crate::support::{SEATTLE, TestDatabase, cluster};

/// With the local model, whose file is there since the run began.
async fn searching(database: &TestDatabase, arguments: &[&str]) -> Said {
    let _ = cluster();
    let cache = dev::cache_folder(
        std::env::var_os("ROWGATE_CACHE_DIR").map(PathBuf::from).as_deref(),
        std::env::home_dir().map(|home| home.join(".cache")).as_deref(),
    );
    let model = dev::minilm(&cache).unwrap();
    let model = [("ROWGATE_EMBEDDER", "local"), ("ROWGATE_EMBEDDING_MODEL_FILE", model.to_str().unwrap())];
    with(database, &model, arguments).await
}

#[tokio::test]
async fn an_index_that_is_missing_broken_or_not_whole_is_found() {
    let database = TestDatabase::create().await;
    let superuser = database.superuser().await;
    let well = searching(&database, &["--as", SEATTLE]).await;
    assert!(well.healthy, "{}", well.text);
    assert_eq!(well.of("embeddings").0, "ok", "{}", well.text);
    assert_eq!(well.of("vectors"), ("ok", "441 of all-minilm-l6-v2", ""));
    let (mark, index, _) = well.of("vector index");
    assert!(mark == "ok" && index.starts_with("retail.vectors_of_") && index.ends_with("_m32"), "{}", well.text);
    assert_eq!(well.of("recall"), ("ok", "1.000 of the nearest rows of 5 vectors", ""));

    // Rows that the index never heard of: each has a twin that it did hear of.
    superuser
        .batch_execute(&format!(
            "insert into retail.products (product_id, sku, product_name, category_id, type_id, cost, base_price, gross_margin_percent, product_description)
             select product_id + 10000, 'T-' || sku, product_name, category_id, type_id, cost, base_price, gross_margin_percent, product_description
               from retail.products;
             update pg_index set indisready = false where indexrelid = '{index}'::regclass"
        ))
        .await
        .unwrap();
    superuser
        .batch_execute(
            "insert into retail.product_description_embeddings (product_id, model, description_embedding, content_hash)
             select product_id + 10000, model, description_embedding, content_hash from retail.product_description_embeddings",
        )
        .await
        .unwrap();
    superuser
        .batch_execute(&format!("update pg_index set indisready = true where indexrelid = '{index}'::regclass"))
        .await
        .unwrap();
    let poor = searching(&database, &["--as", SEATTLE]).await;
    let (mark, seen, run) = poor.of("recall");
    let share: f64 = seen.split(' ').next().unwrap().parse().unwrap();
    assert!(poor.healthy && mark == "warning" && (0.2..0.8).contains(&share), "{}", poor.text);
    let reindex = format!("reindex index concurrently {index}");
    assert_eq!(run, format!("as the tables' owner: {reindex}"));
    superuser.batch_execute(&reindex).await.unwrap();
    assert_eq!(searching(&database, &["--as", SEATTLE]).await.of("recall").0, "ok");

    superuser
        .batch_execute(&format!("update pg_index set indisvalid = false where indexrelid = '{index}'::regclass"))
        .await
        .unwrap();
    let invalid = searching(&database, &["--as", SEATTLE]).await;
    let (mark, seen, run) = invalid.of("vector index");
    assert!(invalid.healthy && mark == "warning" && seen.contains("is not valid"), "{}", invalid.text);
    assert_eq!(run, format!("drop index {index}; then rowgate embed"));
    assert_eq!(invalid.of("recall").0, "skipped");

    superuser.batch_execute(&format!("drop index {index}")).await.unwrap();
    // Whether it is there is known without a caller.
    let missing = searching(&database, &[]).await;
    let seen = "none of all-minilm-l6-v2, so every row is compared";
    assert_eq!(missing.of("vector index"), ("warning", seen, "rowgate embed"));
    for name in ["vectors", "recall"] {
        let named = ("skipped", "no caller was named", "rowgate doctor --as <principal>");
        assert_eq!(missing.of(name), named);
    }

    // One that an earlier version made is searched until it is replaced.
    let narrow = index.strip_suffix("_m32").unwrap().strip_prefix("retail.").unwrap();
    superuser
        .batch_execute(&format!(
            "create index {narrow} on retail.product_description_embeddings
              using hnsw ((description_embedding::vector(384)) vector_cosine_ops) where model = 'all-minilm-l6-v2'"
        ))
        .await
        .unwrap();
    let earlier = searching(&database, &["--as", SEATTLE]).await;
    let (mark, seen, run) = earlier.of("vector index");
    assert!(mark == "warning" && seen.contains("is an earlier version's"), "{}", earlier.text);
    assert_eq!((run, earlier.of("recall").0), ("rowgate embed", "ok"), "{}", earlier.text);
}
