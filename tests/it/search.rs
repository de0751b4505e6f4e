//! Search answers what a comparison of every row would, for every store and filter; says where it can not; and its
//! vectors are kept up to date by a pipeline that can be stopped and started.

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

use crate::support::{CountingProxy, HEAD_OFFICE, KIRKLAND, SEATTLE, TestDatabase, TestServer, cluster, stores};

/// An embedder whose vectors are a hash of the text, or that fails or hangs.
struct Scripted {
    model: EmbeddingModel,
    does: Does,
}

#[derive(Clone, Copy)]
enum Does {
    Hash,
    Fail,
    Hang,
}

impl Scripted {
    fn new(name: &str, dimensions: usize, does: Does) -> Self {
        Self { model: EmbeddingModel { name: name.to_owned(), dimensions }, does }
    }
}

impl Embedder for Scripted {
    fn model(&self) -> &EmbeddingModel {
        &self.model
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

fn profile_with(model: &str, dimensions: usize) -> Profile {
    let more = format!("\n[[search.models]]\nname = \"{model}\"\ndimensions = {dimensions}\nthreshold = 0\n");
    Profile::parse(&format!("{}{more}", retail::PROFILE)).unwrap()
}

async fn search(server: &TestServer, caller: &str, arguments: Value) -> Value {
    server.call(Some(caller), "semantic_search_products", arguments).await.ok()
}

fn column(answer: &Value, name: &str) -> Vec<Value> {
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
async fn every_store_and_filter_gets_what_comparing_every_row_gives() {
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
    for (principal, own) in &callers {
        for (arguments, condition) in filters {
            let truth = format!(
                "select p.sku, (select coalesce(sum(i.stock_level), 0)::int8 from retail.inventory i where i.product_id = p.product_id and {own})
                   from retail.products p join retail.categories c using (category_id)
                   join retail.product_description_embeddings e using (product_id)
                  where {} order by e.description_embedding <=> '{vector}' limit 20",
                condition.replace("$stores", own)
            );
            let truth = superuser.query(&truth, &[]).await.unwrap();
            let truth: Vec<(Value, Value)> =
                truth.iter().map(|row| (json!(row.get::<_, String>(0)), json!(row.get::<_, i64>(1)))).collect();
            let mut asked = arguments.clone();
            asked["query_description"] = json!(query);
            asked["similarity_threshold"] = json!(0);
            let answer = search(&server, principal, asked).await;
            let found: Vec<_> = column(&answer, "sku").into_iter().zip(column(&answer, "stock")).collect();
            // Rows of (nearly) no similarity fall below the threshold of 0.
            assert!(found.len() > 5, "{arguments}");
            assert_eq!(found, truth[..found.len()], "{principal} {arguments}");
        }
    }
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

async fn run(admin: &mut Admin, profile: &Profile, embedder: &dyn Embedder, all: bool) -> Indexed {
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

/// Beyond what is compared row by row, the index is scanned on until enough rows have passed.
#[tokio::test]
async fn the_index_loses_no_rows_to_a_filter() {
    let database = TestDatabase::create().await;
    let mut admin = database.superuser().await;
    admin
        .batch_execute(
            "insert into retail.products (product_id, sku, product_name, category_id, type_id, cost, base_price, gross_margin_percent, product_description)
             select n, 'X-' || n, 'Thing ' || n, 1 + n % 9, 1, 1, n % 100, 33, 'Thing number ' || n from generate_series(1001, 25000) n;
             analyze retail.products",
        )
        .await
        .unwrap();
    let profile = profile_with("scripted", 8);
    let scripted = Scripted::new("scripted", 8, Does::Hash);
    assert_eq!(run(&mut admin, &profile, &scripted, false).await.total, 24_441);

    let db = database.open();
    let source = profile.search.as_ref().unwrap();
    let model = source.models.iter().find(|model| model.name == "scripted").unwrap();
    let (mut hits, mut asked) = (0, 0);
    for (n, query) in ["one", "two", "three", "four", "five"].iter().enumerate() {
        let vector = scripted.embed(&[(*query).to_owned()]).await.unwrap().vectors.remove(0);
        let written = format!("[{}]", vector.iter().map(f32::to_string).collect::<Vec<_>>().join(","));
        // Half of the rows pass, and with another filter one in a hundred.
        for (filter, value, condition) in [(1, 50.0, "base_price >= 50"), (1, 99.0, "base_price >= 99")] {
            let text = rowgate::domain::SearchText::parse(query).unwrap();
            let filters = vec![(filter, rowgate::domain::FilterValue::Number(value))];
            let target = rowgate::db::Target::Vector(&vector);
            let wanted = rowgate::db::Search { source, model, text: &text, target, filters };
            let found = db.search(&crate::support::caller(SEATTLE), &wanted).await.unwrap();
            let truth = format!(
                "select sku from retail.products join retail.product_description_embeddings e using (product_id)
                  where e.model = 'scripted' and {condition} order by e.description_embedding <=> '{written}' limit 10"
            );
            let truth: Vec<String> = admin.query(&truth, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
            assert_eq!(truth.len(), 10, "{n}");
            let first: Vec<&String> = found.iter().take(10).map(|row| &row.code).collect();
            hits += truth.iter().filter(|code| first.contains(code)).count();
            asked += 10;
            assert!(found.len() >= 90, "{} of 100", found.len());
        }
    }
    let recall = f64::from(u32::try_from(hits).unwrap()) / f64::from(u32::try_from(asked).unwrap());
    println!("recall@10 against comparing every row: {recall:.3}");
    assert!(recall >= 0.98, "{recall}");
}
