//! Clients that ask as all stores and the head office, and know what each answer has to be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use reqwest::Client;
use rowgate::db::admin::Admin;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::answer::{Answer, judge};
use super::tally::{Outcome, Tally};
use crate::support::{HEAD_OFFICE, NOBODY, stores};

/// Longer than any call may take, with the time that HTTP gives to read and write it: beyond it a call hangs.
pub(super) const HANG: Duration = Duration::from_secs(90);

/// After an answer that was no success a client waits this long, so that errors are counted and not a flood of them.
const PAUSE: Duration = Duration::from_millis(25);

const ORDERS: &str = "select order_id, store_id from retail.orders order by order_id limit 200";

/// What a caller has to see.
struct Person {
    principal: String,
    /// Each store that it sees, and how many orders that has.
    orders: BTreeMap<i64, i64>,
    /// The first 200 orders, with their stores.
    first: Value,
}

/// What the answers have to be, as the superuser sees it.
pub(super) struct Truth {
    people: Vec<Person>,
    /// Names by their codes.
    products: BTreeMap<String, String>,
}

impl Truth {
    pub(super) async fn read(superuser: &Admin) -> Self {
        let counts =
            superuser.query("select store_id::int8, count(*) from retail.orders group by 1", &[]).await.unwrap();
        let counts: BTreeMap<i64, i64> = counts.iter().map(|row| (row.get(0), row.get(1))).collect();
        let mut people = Vec::new();
        let mut known = vec![(None, HEAD_OFFICE.to_owned())];
        known.extend(stores().into_iter().map(|(store, principal)| (Some(i64::from(store)), principal)));
        for (store, principal) in known {
            let orders: BTreeMap<i64, i64> =
                counts.iter().filter(|(id, _)| store.is_none_or(|own| own == **id)).map(|(k, v)| (*k, *v)).collect();
            let rows = superuser
                .query(
                    "select order_id::int8, store_id::int8 from retail.orders where $1::int8 is null or store_id = $1
                      order by order_id limit 200",
                    &[&store],
                )
                .await
                .unwrap();
            let first = rows.iter().map(|row| json!([row.get::<_, i64>(0), row.get::<_, i64>(1)])).collect();
            people.push(Person { principal, orders, first });
        }
        assert_eq!(people.len(), 9);
        let products = superuser.query("select sku, product_name from retail.products", &[]).await.unwrap();
        Self { people, products: products.iter().map(|row| (row.get(0), row.get(1))).collect() }
    }
}

/// Clients at work. They stop when this is dropped, or when all calls are made.
pub(super) struct Load {
    pub(super) tally: Arc<Tally>,
    pub(super) made: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// So many clients, for `calls` in all.
    pub(super) fn start(url: &str, truth: Arc<Truth>, clients: usize, calls: usize) -> Self {
        let (tally, made, ended) = (Arc::<Tally>::default(), Arc::<AtomicUsize>::default(), Arc::default());
        let start = |number: usize| {
            let http = Client::builder().no_proxy().timeout(HANG).build().unwrap();
            let asking =
                Asking { http, url: format!("{url}/mcp"), truth: Arc::clone(&truth), tally: Arc::clone(&tally) };
            let (made, ended) = (Arc::clone(&made), Arc::clone(&ended));
            tokio::spawn(async move {
                let mut rng = ChaCha8Rng::seed_from_u64(number as u64);
                let mut turn = number;
                while !AtomicBool::load(&ended, Ordering::SeqCst) && made.fetch_add(1, Ordering::SeqCst) < calls {
                    asking.once(turn % 9, &mut rng).await;
                    turn += 1;
                }
            })
        };
        let clients = (0..clients).map(start).collect();
        Self { tally, made, ended, clients }
    }

    /// Waits until every client has its last answer, which is never longer than a call may take.
    pub(super) async fn finish(mut self) -> Arc<Tally> {
        self.ended.store(true, Ordering::SeqCst);
        self.all_made().await
    }

    /// Waits until all calls are made.
    pub(super) async fn all_made(&mut self) -> Arc<Tally> {
        for client in std::mem::take(&mut self.clients) {
            client.await.unwrap();
        }
        Arc::clone(&self.tally)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
    }
}

struct Asking {
    http: Client,
    url: String,
    truth: Arc<Truth>,
    tally: Arc<Tally>,
}

impl Asking {
    async fn once(&self, person: usize, rng: &mut ChaCha8Rng) {
        let person = &self.truth.people[person];
        let started = Instant::now();
        let (needs_data, outcome) = match rng.random_range(0..20) {
            0 => (false, self.hostile(person, rng).await),
            1 => (false, self.date(person).await),
            2..=4 => (true, self.schemas(person).await),
            5 => (true, self.search(person, &json!({ "query_description": nonce("a saw, number ") })).await),
            6 => (true, self.search(person, &json!({ "query_description": "paint for a wet room" })).await),
            7 => (true, self.similar(person).await),
            8..=11 => (true, self.orders(person).await),
            _ => (true, self.counts(person).await),
        };
        let good = matches!(outcome, Outcome::Right | Outcome::ByWords);
        self.tally.note(started, needs_data, outcome);
        if !good {
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn call(&self, principal: &str, tool: &str, arguments: &Value) -> Answer {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": { "name": tool, "arguments": arguments } });
        let request = self
            .http
            .post(&self.url)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("x-rls-user-id", principal)
            .body(body.to_string());
        judge(request).await
    }

    async fn sql(&self, principal: &str, sql: &str, most: usize) -> Answer {
        self.call(principal, "execute_sales_query", &json!({ "postgresql_query": sql, "max_rows": most })).await
    }

    /// The number of orders of each store, with a word of this call's own.
    async fn counts(&self, person: &Person) -> Outcome {
        let word = nonce("call ");
        let sql = format!(
            "select '{word}' as call, store_id, count(*) from retail.orders group by store_id order by store_id"
        );
        let expected: Vec<Value> = person.orders.iter().map(|(store, count)| json!([word, store, count])).collect();
        self.sql(&person.principal, &sql, 100).await.has_rows(&json!(expected))
    }

    /// Two hundred orders, one by one.
    async fn orders(&self, person: &Person) -> Outcome {
        self.sql(&person.principal, ORDERS, 200).await.has_rows(&person.first)
    }

    async fn date(&self, person: &Person) -> Outcome {
        self.call(&person.principal, "get_current_utc_date", &json!({})).await.passes(|answer| answer.is_object())
    }

    async fn schemas(&self, person: &Person) -> Outcome {
        let tables = json!({ "table_names": ["retail.orders", "retail.stores"] });
        let answer = self.call(&person.principal, "get_multiple_table_schemas", &tables).await;
        answer.passes(|answer| {
            answer["schemas"].as_str().is_some_and(|text| {
                text.contains("retail.orders -- ") && text.contains("retail.stores -- ") && text.contains("store_id")
            })
        })
    }

    /// Rows of real products, whatever was found.
    async fn search(&self, person: &Person, arguments: &Value) -> Outcome {
        self.call(&person.principal, "semantic_search_products", arguments).await.found(|code| self.name_of(code))
    }

    async fn similar(&self, person: &Person) -> Outcome {
        let arguments = json!({ "product": "PL-FIT-01", "similarity_threshold": 0 });
        let answer = self.call(&person.principal, "find_similar_products", &arguments).await;
        answer.found(|code| self.name_of(code))
    }

    fn name_of(&self, code: &str) -> Option<&str> {
        self.truth.products.get(code).map(String::as_str)
    }

    /// What nobody should be able to do.
    async fn hostile(&self, person: &Person, rng: &mut ChaCha8Rng) -> Outcome {
        let own: Vec<_> = person.orders.keys().map(i64::to_string).collect();
        let refused = [
            "update retail.orders set store_id = 1",
            "select 1; delete from retail.orders",
            "with gone as (delete from retail.orders returning 1) select * from gone",
            "select set_config('rowgate.claim', 'v2.k1.0', false)",
            "select set_config('role', 'none', false)",
            "select pg_sleep(60)",
            "select * from rowgate.principals",
            "select pg_terminate_backend(pid) from pg_stat_activity",
            "select 1 / 0",
        ];
        match rng.random_range(0..16) {
            14.. => {
                let sql = "select count(*) > 0 from (select repeat(md5(i.order_id::text), 20) m \
                           from retail.order_items i order by m offset 0) r";
                self.sql(&person.principal, sql, 10).await.has_rows(&json!([[true]]))
            }
            0 => {
                let answer = self.sql(NOBODY, "select count(*) from retail.orders", 10).await;
                answer.refused("Unknown caller")
            }
            1 => {
                let sql = "select repeat(md5(n::text), 100000) from generate_series(1, 100) n";
                self.sql(&person.principal, sql, 100).await.cut()
            }
            2 => {
                let sql = "select generate_series(1, 100000000) n, repeat('x', 2000)";
                self.sql(&person.principal, sql, 1000).await.cut()
            }
            3 | 4 => {
                let sql = format!("select count(*) from retail.orders where store_id not in ({})", own.join(", "));
                self.sql(&person.principal, &sql, 10).await.has_rows(&json!([[0]]))
            }
            n => self.sql(&person.principal, refused[n - 5], 10).await.refused(""),
        }
    }
}

/// A word that no other call has.
fn nonce(prefix: &str) -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    format!("{prefix}{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}
