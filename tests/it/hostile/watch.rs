//! The owner's side: what nobody may see is planted here, and after each statement somebody looks whether anything of it
//! was seen and whether anything has changed. Everything as a superuser, on connections of its own.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rowgate::db::admin::Admin;
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, NoTls};

use crate::support::{KIRKLAND, TestDatabase, cluster};

/// Stands in every row that a store other than Seattle's has, and in every row of the core's tables.
const SECRET: &str = "QUARTZ-7731-FOREIGN";

/// The same in columns that hold no text: prices, stock, dates, and the value of a sequence.
const SECRET_NUMBERS: &[&str] = &["48151623.42", "1618033988", "2718-02-08", "1414213562"];

/// What stands in the text of a statement that another connection of the login role is running.
pub(super) const NEIGHBOUR: &str = "NEIGHBOUR-5519-TEXT";

/// A lock that another session holds.
const HELD: &str = "select pg_advisory_lock(31415926)";

const PLANT: &str = "
update retail.customers c set first_name = $secret$, last_name = $secret$, phone = $secret$, email = $secret$ || customer_id
 where primary_store_id <> 1
   and not exists (select from retail.orders o where o.customer_id = c.customer_id and o.store_id = 1);
update retail.order_items set unit_price = 48151623.42, total_amount = 48151623.42 where store_id <> 1;
update retail.inventory set stock_level = 1618033988 where store_id <> 1;
update retail.orders set order_date = '2718-02-08' where store_id <> 1;
update rowgate.principals set display_name = $secret$ where principal not like 'f47ac10b%';
insert into rowgate.tokens (token_id, principal, expires_at) values ('0123456789abcdef', '$kirkland$', 'infinity');
select setval('retail.orders_order_id_seq', 1414213562), lo_from_bytea(4711, convert_to($secret$, 'UTF8'));
alter table retail.customers alter first_name set statistics 1000;
create statistics retail.names on first_name, last_name, primary_store_id from retail.customers;
vacuum analyze;
";

/// What could have been left, as one row. $1: the pid of the neighbour, which is at work all the time. Other tests use
/// the same server: what they may change meanwhile (roles of their own, settings in their databases) is not looked at, and
/// snapshots that they export are gone with their transactions.
const LOOK: &str = "
with calls as materialized (
    select pid, state from pg_stat_activity where datname = current_database() and usename = 'rowgate_app' and pid <> $1
)
select (select count(*) from calls where state is distinct from 'idle'),
       (select count(*) from pg_locks where pid in (select pid from calls)),
       pg_snapshot_xmax(pg_current_snapshot())::text::int8,
       (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::int8, (select count(*) from pg_ls_dir('pg_snapshots')),
       concat_ws(' ',
           (select sum(pg_sequence_last_value(seqrelid)) from pg_sequence),
           (select count(*) from pg_class where relpersistence <> 'p'),
           (select count(*) from pg_prepared_xacts), (select count(*) from pg_replication_slots),
           (select count(*) from pg_replication_origin), (select count(*) from pg_largeobject_metadata),
           (select count(*) from pg_ls_dir('.')),
           (select count(*) from pg_db_role_setting
             where setdatabase in (0, (select oid from pg_database where datname = current_database()))),
           (select count(*) from pg_auth_members where member::regrole::text !~ '^posture_'),
           (select string_agg(concat(rolname, rolsuper, rolbypassrls), ',' order by rolname) from pg_roles
             where rolname !~ '^posture_'))
";

/// What the owner sees after a statement.
#[derive(Debug)]
pub(super) struct Sight {
    /// The next transaction's id.
    pub(super) xid: i64,
    /// How far the log of writes is, in bytes.
    pub(super) wal: i64,
    left: String,
}

pub(super) struct Watch {
    owner: Admin,
    _holder: Admin,
    neighbour: Neighbour,
    needles: Vec<String>,
    notifications: Arc<AtomicUsize>,
    listener: tokio_postgres::Client,
    marks: String,
    contents: String,
    pub(super) version: u32,
    /// Whether the server was built with libxml.
    pub(super) has_xml: bool,
}

/// Another connection of the login role, which runs a statement as another caller's call does.
pub(super) struct Neighbour {
    pid: i32,
    running: JoinHandle<String>,
}

impl Neighbour {
    pub(super) async fn start(database: &TestDatabase) -> Self {
        let (client, connection) = database.app().connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        let pid = client.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
        let running = tokio::spawn(async move {
            let ended = client.simple_query(&format!("select pg_sleep(600), '{NEIGHBOUR}'")).await.unwrap_err();
            ended.code().map_or_else(|| "lost".to_owned(), |code| code.code().to_owned())
        });
        Self { pid, running }
    }
}

impl Watch {
    pub(super) async fn over(database: &TestDatabase) -> Self {
        let owner = database.superuser().await;
        let secret = format!("'{SECRET}'");
        for statement in PLANT.trim().split(";\n") {
            owner.batch_execute(&statement.replace("$secret$", &secret).replace("$kirkland$", KIRKLAND)).await.unwrap();
        }
        // What another session holds, and the text that it last ran.
        let holder = database.superuser().await;
        holder.batch_execute(&format!("{HELD}; select {secret}")).await.unwrap();

        let notifications = Arc::new(AtomicUsize::new(0));
        let heard = Arc::clone(&notifications);
        let (listener, mut connection) = cluster().cluster.superuser(&database.name).connect(NoTls).await.unwrap();
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if matches!(message, AsyncMessage::Notification(_)) {
                    heard.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        listener.batch_execute("listen hostile").await.unwrap();

        let mut needles: Vec<String> = SECRET_NUMBERS.iter().map(|number| (*number).to_owned()).collect();
        needles.extend([SECRET, "SCRAM-SHA-256$4096", "root:x:0:0"].map(str::to_owned));
        for row in owner
            .query("select encode(inner_pad, 'hex'), encode(outer_pad, 'hex') from rowgate.claim_keys", &[])
            .await
            .unwrap()
        {
            needles.extend([row.get(0), row.get(1)]);
        }
        let version: i32 =
            owner.query_one("select current_setting('server_version_num')::int / 10000", &[]).await.unwrap().get(0);
        let has_xml = owner.query_one("select xml '<a/>' is document", &[]).await.is_ok();
        let mut watch = Self {
            owner,
            _holder: holder,
            neighbour: Neighbour::start(database).await,
            needles,
            notifications,
            listener,
            marks: String::new(),
            contents: String::new(),
            version: u32::try_from(version).unwrap(),
            has_xml,
        };
        (watch.marks, watch.contents) = (watch.read("concat(ctid, xmin, xmax)").await, watch.read("t::text").await);
        watch
    }

    /// A fingerprint of all rows of all tables, by an expression over a row.
    async fn read(&self, of_row: &str) -> String {
        let tables = "select oid::regclass::text from pg_class where relkind = 'r'
                       and relnamespace in ('retail'::regnamespace, 'rowgate'::regnamespace) order by 1";
        let tables: Vec<String> = self.owner.query(tables, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
        assert!(tables.len() >= 15, "{tables:?}");
        let each = tables.iter().map(|table| {
            format!("(select concat('{table} ', count(*), ' ', sum(hashtextextended({of_row}, 0))) from {table} t)")
        });
        let sql = format!("select concat_ws(', ', {})", each.collect::<Vec<_>>().join(", "));
        self.owner.query_one(&sql, &[]).await.unwrap().get(0)
    }

    /// Looks once nothing of a call runs any more, and says what is still held then.
    pub(super) async fn look(&self, patience: Duration, complaints: &mut Vec<String>) -> Sight {
        let deadline = Instant::now() + patience;
        loop {
            let row = self.owner.query_one(LOOK, &[&self.neighbour.pid]).await.unwrap();
            let (busy, held, exported): (i64, i64, i64) = (row.get(0), row.get(1), row.get(4));
            let over = Instant::now() > deadline;
            if (busy, held, exported) == (0, 0, 0) || over {
                if over {
                    complaints.push(format!(
                        "{busy} calls still run, {held} locks are held and {exported} snapshots exported after {patience:?}"
                    ));
                }
                return Sight { xid: row.get(2), wal: row.get(3), left: row.get(5) };
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Compares two looks. Nothing is written without a transaction's id, so where none was given no row was touched;
    /// other tests use ids too, so where one was given all rows are looked at.
    pub(super) async fn compare(&self, before: &Sight, after: &Sight, complaints: &mut Vec<String>) {
        if before.left != after.left {
            complaints.push(format!("left behind: {} was {}", after.left, before.left));
        }
        if before.xid != after.xid {
            let marks = self.read("concat(ctid, xmin, xmax)").await;
            if marks != self.marks {
                complaints.push(format!("rows were touched: {marks} was {}", self.marks));
            }
        }
    }

    /// Every value of every row, and whatever else a family of statements could have left.
    pub(super) async fn compare_everything(&self, complaints: &mut Vec<String>) {
        if self.read("t::text").await != self.contents {
            complaints.push("rows have changed".to_owned());
        }
        if self.notifications.load(Ordering::SeqCst) != 0 {
            complaints.push("somebody was notified".to_owned());
        }
        for folder in ["/tmp", "."] {
            for entry in std::fs::read_dir(folder).unwrap().filter_map(Result::ok) {
                if entry.file_name().to_string_lossy().starts_with("rowgate-hostile-") {
                    complaints.push(format!("{} was written", entry.path().display()));
                }
            }
        }
    }

    /// Proves that the watch would have told: a row is changed, an id is used, somebody is notified.
    pub(super) async fn wakes(&self) {
        let mut complaints = Vec::new();
        let before = self.look(Duration::ZERO, &mut Vec::new()).await;
        self.owner
            .batch_execute("update retail.products set cost = cost + 0.01 where product_id = 1; notify hostile, 'x'")
            .await
            .unwrap();
        let after = self.look(Duration::ZERO, &mut Vec::new()).await;
        // Answered after the notification, which comes between statements only.
        self.listener.batch_execute("select 1").await.unwrap();
        self.compare(&before, &after, &mut complaints).await;
        self.compare_everything(&mut complaints).await;
        assert_eq!(complaints.len(), 3, "{complaints:?}");
    }

    /// What of another's a text shows.
    pub(super) fn secrets_in(&self, text: &str) -> BTreeSet<&str> {
        let needles = self.needles.iter().map(String::as_str);
        needles.chain([NEIGHBOUR]).filter(|needle| text.contains(*needle)).collect()
    }

    /// How many rows a table has in all.
    pub(super) async fn rows_of(&self, table: &str) -> i64 {
        self.owner.query_one(&format!("select count(*) from {table}"), &[]).await.unwrap().get(0)
    }

    /// The first random number after the seed that the corpus sets.
    pub(super) async fn random_after_seed(&self) -> f64 {
        self.owner.batch_execute("select setseed(0.5)").await.unwrap();
        self.owner.query_one("select random()", &[]).await.unwrap().get(0)
    }

    /// How the neighbour's statement ended, if it did. A new neighbour takes its place.
    pub(super) async fn neighbour_ended(&mut self, database: &TestDatabase) -> Option<String> {
        if !self.neighbour.running.is_finished() {
            return None;
        }
        let gone = std::mem::replace(&mut self.neighbour, Neighbour::start(database).await);
        Some(gone.running.await.unwrap())
    }

    /// Waits for the neighbour's statement to end.
    pub(super) async fn neighbour_ends(&mut self) {
        let ending = async {
            while !self.neighbour.running.is_finished() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), ending).await.unwrap();
    }
}
