//! Search answers as the caller, says where it can not, and its vectors are kept up to date by a pipeline that can be
//! stopped and started.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use indicatif::ProgressBar;
use rowgate::db::admin::Admin;
use rowgate::domain::Profile;
use rowgate::embedding::{Embedded, Embedder, EmbeddingError, EmbeddingModel};
use rowgate::indexing::{Indexed, index_for};
use rowgate::retail;
use serde_json::{Value, json};

use crate::support::{CountingProxy, HEAD_OFFICE, KIRKLAND, SEATTLE, TestDatabase, TestServer, cluster};

/// An embedder whose vectors are a hash of the text, or that fails or hangs.
pub(crate) struct Scripted {
    model: EmbeddingModel,
    does: Does,
}

#[derive(Clone, Copy)]
pub(crate) enum Does {
    Hash,
    Fail,
    Hang,
}

impl Scripted {
    pub(crate) fn new(name: &str, dimensions: usize, does: Does) -> Self {
        Self { model: EmbeddingModel { name: name.to_owned(), dimensions }, does }
    }
}

impl Embedder for Scripted {
    fn model(&self) -> &EmbeddingModel {
        &self.model
    }

    fn provider(&self) -> &'static str {
        "scripted"
    }

    fn batch(&self) -> usize {
        100
    }

    fn embed<'a>(&'a self, texts: &'a [String]) -> BoxFuture<'a, Result<Embedded, EmbeddingError>> {
        async move {
            match self.does {
                Does::Fail => return Err(EmbeddingError::Shape("scripted")),
                Does::Hang => std::future::pending::<()>().await,
                Does::Hash => {}
            }
            let number = |text: &String, n: usize| {
                use std::hash::{DefaultHasher, Hash, Hasher};
                let mut hasher = DefaultHasher::new();
                (text, n).hash(&mut hasher);
                (hasher.finish() % 2_000) as f32 / 1_000.0 - 1.0
            };
            let vectors =
                texts.iter().map(|text| (0..self.model.dimensions).map(|n| number(text, n)).collect()).collect();
            Ok(Embedded { vectors, tokens: texts.len() as u64 })
        }
        .boxed()
    }
}

pub(crate) fn profile_with(model: &str, dimensions: usize) -> Profile {
    let more = format!("\n[[search.models]]\nname = \"{model}\"\ndimensions = {dimensions}\nthreshold = 0\n");
    Profile::parse(&format!("{}{more}", retail::PROFILE)).unwrap()
}

pub(crate) async fn search(server: &TestServer, caller: &str, arguments: Value) -> Value {
    server.call(Some(caller), "semantic_search_products", arguments).await.ok()
}

pub(crate) fn column(answer: &Value, name: &str) -> Vec<Value> {
    let at = answer["columns"].as_array().unwrap().iter().position(|column| column["name"] == name).unwrap();
    answer["rows"].as_array().unwrap().iter().map(|row| row[at].clone()).collect()
}

#[tokio::test]
async fn the_local_model_gives_the_published_vectors() {
    let embedder = &cluster().embedder;
    let texts = ["embeddings".to_owned(), "Turn a corner in plastic pipe".to_owned(), String::new()];
    let embedded = embedder.embed(&texts).await.unwrap();
    assert_eq!((embedded.vectors.len(), embedder.model().dimensions), (3, 384));
    // From the same weights under ONNX Runtime 1.32, pooled and scaled as sentence-transformers does.
    for (got, expected) in embedded.vectors[0].iter().zip([-0.028_702_961, -0.069_369_73, 0.013_438_181]) {
        assert!((got - expected).abs() < 1e-3, "{got} for {expected}");
    }
    for vector in &embedded.vectors {
        assert_eq!(vector.len(), 384);
        assert!((vector.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-4);
    }
    // A batch gives what one by one gives, and no text is too long or too odd.
    let alone = embedder.embed(&texts[1..2]).await.unwrap();
    let difference = alone.vectors[0].iter().zip(&embedded.vectors[1]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(difference < 1e-3, "{difference}");
    let odd = ["x".repeat(100_000), "\u{0}\u{fffd}🦀 ΑΣ ǅ 한국어 \u{200b}".to_owned(), "a ".repeat(5_000)];
    assert_eq!(embedder.embed(&odd).await.unwrap().vectors.len(), 3);
}

#[tokio::test]
async fn stock_is_that_of_the_callers_own_stores() {
    let server = TestServer::start().await;
    let superuser = server.database.superuser().await;
    superuser
        .batch_execute("update retail.inventory set stock_level = store_id * 1000 where product_id = 1")
        .await
        .unwrap();
    let sku: String =
        superuser.query_one("select sku from retail.products where product_id = 1", &[]).await.unwrap().get(0);
    for (caller, stock) in [(SEATTLE, 1_000), (KIRKLAND, 7_000), (HEAD_OFFICE, 36_000)] {
        let answer = search(&server, caller, json!({ "query_description": sku, "max_rows": 1 })).await;
        assert_eq!((column(&answer, "sku"), column(&answer, "stock")), (vec![json!(sku)], vec![json!(stock)]));
    }
    for principal in [None, Some("11111111-2222-3333-4444-555555555555")] {
        let told =
            server.call(principal, "semantic_search_products", json!({ "query_description": "tap" })).await.error();
        assert!(told.contains("caller"), "{told}");
    }
}

#[tokio::test]
async fn similar_rows_leave_the_row_itself_out_and_obey_filters() {
    let server = TestServer::start().await;
    let similar = async |arguments: Value| server.call(Some(SEATTLE), "find_similar_products", arguments).await;
    let by_code = similar(json!({ "product": "PL-FIT-01" })).await.ok();
    let by_name = similar(json!({ "product": "pvc elbow 3/4 IN" })).await.ok();
    assert_eq!(by_code["rows"], by_name["rows"]);
    assert!(!column(&by_code, "sku").contains(&json!("PL-FIT-01")));
    assert!(column(&by_code, "product_name")[0].as_str().unwrap().starts_with("PVC"));
    let garden = similar(
        json!({ "product": "PL-FIT-01", "category": "GARDEN & OUTDOOR", "max_rows": 3, "similarity_threshold": 0 }),
    )
    .await
    .ok();
    assert_eq!(column(&garden, "category_name"), vec![json!("GARDEN & OUTDOOR"); 3]);
    assert!(similar(json!({ "product": "no such thing" })).await.error().contains("Nothing has the name or code"));
}

#[tokio::test]
async fn without_a_vector_the_words_answer_and_say_so() {
    for does in [Does::Fail, Does::Hang] {
        let database = TestDatabase::create().await;
        let settings = database.settings(&[]);
        let embedder = Arc::new(Scripted::new("all-minilm-l6-v2", 384, does)) as Arc<dyn Embedder>;
        let server = TestServer::serve_with(database, settings, Some(embedder)).await;
        let answer = tokio::time::timeout(
            Duration::from_secs(20),
            search(
                &server,
                SEATTLE,
                json!({ "query_description": "stop a dripping tap", "category": "PLUMBING", "max_rows": 3 }),
            ),
        );
        let answer = answer.await.unwrap();
        assert_eq!(answer["by"], json!("words"));
        assert!(answer["note"].as_str().unwrap().contains("does not work right now"), "{answer}");
        assert_eq!(column(&answer, "sku")[0], json!("PL-FAU-06"), "{answer}");
        assert_eq!(column(&answer, "similarity")[0], Value::Null);
        let answer = search(&server, SEATTLE, json!({ "query_description": "pl-fit-01", "max_rows": 1 })).await;
        assert_eq!(column(&answer, "sku"), [json!("PL-FIT-01")]);
    }
}

#[tokio::test]
async fn a_server_without_an_embedder_does_not_list_search() {
    let database = TestDatabase::create().await;
    let settings = database.settings(&[]);
    let server = TestServer::serve_with(database, settings, None).await;
    let tools = server.request(None, "tools/list", json!({})).await["result"]["tools"].clone();
    let names: Vec<_> = tools.as_array().unwrap().iter().map(|tool| tool["name"].clone()).collect();
    assert_eq!(names, ["get_multiple_table_schemas", "execute_sales_query", "get_current_utc_date"]);
    let told =
        server.call(Some(SEATTLE), "semantic_search_products", json!({ "query_description": "x" })).await.error();
    assert!(told.contains("not set up"), "{told}");
}

pub(crate) async fn run(admin: &mut Admin, profile: &Profile, embedder: &dyn Embedder, all: bool) -> Indexed {
    index_for(admin, profile, embedder, all, &ProgressBar::hidden()).await.unwrap()
}

#[tokio::test]
async fn models_live_side_by_side_and_only_changed_rows_are_embedded() {
    let database = TestDatabase::create().await;
    let mut admin = database.superuser().await;
    let profile = profile_with("scripted", 8);
    let scripted = Scripted::new("scripted", 8, Does::Hash);

    let mut settings = database.settings(&[]);
    let file = std::env::temp_dir().join(format!("rowgate-profile-{}.toml", database.name));
    std::fs::write(
        &file,
        format!("{}\n[[search.models]]\nname = \"scripted\"\ndimensions = 8\nthreshold = 0\n", retail::PROFILE),
    )
    .unwrap();
    settings.profile = Some(file.clone());
    let embedder = Arc::new(Scripted::new("scripted", 8, Does::Hash)) as Arc<dyn Embedder>;
    let server = TestServer::serve_with(database, settings, Some(embedder)).await;
    std::fs::remove_file(file).unwrap();
    let told =
        server.call(Some(SEATTLE), "semantic_search_products", json!({ "query_description": "tap" })).await.error();
    assert!(
        told.contains("Nothing is indexed for the model scripted yet; there is all-minilm-l6-v2 (441 rows)"),
        "{told}"
    );

    assert_eq!(run(&mut admin, &profile, &scripted, false).await, Indexed { embedded: 441, total: 441, tokens: 441 });
    assert_eq!(run(&mut admin, &profile, &scripted, false).await, Indexed { embedded: 0, total: 441, tokens: 0 });
    let answer = search(&server, SEATTLE, json!({ "query_description": "tap" })).await;
    assert_eq!(answer["by"], json!("meaning"));

    admin
        .batch_execute("update retail.products set product_description = 'Another text.' where product_id = 5")
        .await
        .unwrap();
    assert_eq!(run(&mut admin, &profile, &scripted, false).await, Indexed { embedded: 1, total: 441, tokens: 1 });
    assert_eq!(run(&mut admin, &profile, &scripted, true).await.embedded, 441);
    // The other model's vectors are as they were, but for the row that changed.
    assert_eq!(run(&mut admin, &profile, &*cluster().embedder, false).await.embedded, 1);
    let failing = Scripted::new("scripted", 8, Does::Fail);
    admin
        .batch_execute("update retail.products set product_description = 'Again.' where product_id = 6")
        .await
        .unwrap();
    assert!(index_for(&mut admin, &profile, &failing, false, &ProgressBar::hidden()).await.is_err());
    assert_eq!(run(&mut admin, &profile, &scripted, false).await.embedded, 1);
}

#[tokio::test]
async fn a_model_has_one_index_the_present_one() {
    let database = TestDatabase::create().await;
    let mut admin = database.superuser().await;
    let indexes = "select indexrelid::regclass::text from pg_index
                    where indrelid = 'retail.product_description_embeddings'::regclass and not indisprimary";
    let index: String = admin.query_one(indexes, &[]).await.unwrap().get(0);
    let (before, _) = index.split_once("_m").unwrap();
    let before = before.strip_prefix("retail.").unwrap();
    admin.batch_execute(&format!("alter index {index} rename to {before}")).await.unwrap();
    for _ in 0..2 {
        run(&mut admin, &Profile::parse(retail::PROFILE).unwrap(), &*cluster().embedder, false).await;
        assert_eq!(admin.query_one(indexes, &[]).await.unwrap().get::<_, String>(0), index);
    }
}

#[tokio::test]
async fn a_search_is_one_round_trip() {
    let proxy = CountingProxy::to(cluster().cluster.port()).await;
    let database = TestDatabase::create().await;
    let mut settings = database.settings(&[]);
    let mut app = tokio_postgres::Config::new();
    app.host("127.0.0.1").port(proxy.port).user("rowgate_app").dbname(&database.name);
    app.password(database.app().get_password().unwrap());
    settings.database.app = Some(app);
    let server = TestServer::serve(database, settings).await;
    search(&server, SEATTLE, json!({ "query_description": "tap" })).await;
    proxy.round_trips();
    for arguments in [
        json!({ "query_description": "tap" }),
        json!({ "query_description": "other words", "category": "PLUMBING", "in_stock_only": true }),
    ] {
        search(&server, SEATTLE, arguments).await;
        assert_eq!(proxy.round_trips(), 1);
    }
    server.call(Some(SEATTLE), "find_similar_products", json!({ "product": "PL-FIT-01" })).await.ok();
    assert_eq!(proxy.round_trips(), 1);
}
