//! Hostile SQL: a corpus of statements that mean harm, each run twice, with all layers and with the lexical check out of
//! the way, as one store over the real login role. After each one somebody looks from the owner's side. The statements
//! and what is meant to come of them are data, in `tests/data/hostile`.

mod corpus;
mod effects;
mod memory;
mod soup;
mod watch;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rowgate::db::{Answer, Db, DbError, Statement};
use rowgate::domain::{Profile, RowLimit};
use rowgate::identity::Caller;
use rowgate::retail;
use serde_json::{Value, json};

use self::corpus::{Effect, Hostile, Outcome, Tally};
use self::effects::Seen;
use self::watch::Watch;
use crate::support::{SEATTLE, TestDatabase, caller, cluster};

/// How long a statement that is meant to run out of time may run.
const SHORT: Duration = Duration::from_millis(250);

/// How long any other may: as long as a busy machine needs.
const LONG: Duration = Duration::from_secs(60);

/// What the next call on the same connection sees of the session.
const SESSION: &str = "
select current_user::text, session_user::text,
       (select md5(string_agg(concat(name, '=', setting, source), ',' order by name)) from pg_settings
         where name not in ('statement_timeout', 'in_hot_standby')),
       (select count(*) from pg_locks where pid = pg_backend_pid() and locktype not in ('relation', 'virtualxid')),
       (select string_agg(name, ',') from pg_prepared_statements where name <> 'rowgate_statement' and name !~ '^s[0-9]+$'),
       (select count(*) from pg_cursors), pg_my_temp_schema()::int8, (select count(*) from pg_listening_channels()),
       current_setting('search_path'), current_setting('transaction_read_only'), pg_current_xact_id_if_assigned() is null,
       (select count(*) from retail.orders), (select count(*) from retail.orders where store_id <> 1)";

/// The layers that a statement meets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layers {
    All,
    PostgresAlone,
}

impl Layers {
    const BOTH: &[Self] = &[Self::All, Self::PostgresAlone];

    fn name(self) -> &'static str {
        match self {
            Self::All => "guarded",
            Self::PostgresAlone => "bare",
        }
    }

    fn expected(self, hostile: &Hostile) -> &Outcome {
        match self {
            Self::All => &hostile.guarded,
            Self::PostgresAlone => &hostile.bare,
        }
    }
}

/// One store's way to the database, over one connection, so that each statement meets what the one before it left.
struct Way {
    db: Db,
    limit: Duration,
    session: Vec<Vec<Value>>,
}

struct Trial {
    database: TestDatabase,
    watch: Watch,
    seattle: Caller,
    short: Way,
    long: Way,
    tally: Tally,
    complaints: Vec<String>,
}

impl Way {
    async fn open(database: &TestDatabase, seattle: &Caller, limit: Duration) -> Self {
        let mut settings = database.settings(&[("ROWGATE_POOL_SIZE", "1")]);
        settings.limits.statement = limit;
        let path = Profile::parse(retail::PROFILE).unwrap().search_path;
        let keys = Arc::new(cluster().keys.clone());
        let db = Db::new(database.app(), &settings.database, &settings.limits, &path, keys, None).unwrap();
        let session = session(&db, seattle).await.unwrap();
        Self { db, limit, session }
    }

    async fn run(&self, caller: &Caller, hostile: &Hostile, layers: Layers) -> Result<Answer, DbError> {
        match layers {
            Layers::All => self.db.query(caller, &hostile.sql, RowLimit::DEFAULT).await,
            Layers::PostgresAlone => {
                self.db.query_checked(caller, &Statement::unchecked(&hostile.sql), RowLimit::DEFAULT).await
            }
        }
    }
}

/// Asked again if it ran out of time, which it may on a busy machine: it has as little as the statement before it.
async fn session(db: &Db, caller: &Caller) -> Result<Vec<Vec<Value>>, DbError> {
    let mut left = 20;
    loop {
        match db.query(caller, SESSION, RowLimit::DEFAULT).await {
            Err(DbError::TimedOut) if left > 0 => left -= 1,
            answer => return answer.map(|answer| answer.rows.values()),
        }
    }
}

impl Trial {
    async fn begin() -> Self {
        let database = TestDatabase::create().await;
        let watch = Watch::over(&database).await;
        let seattle = caller(SEATTLE);
        let short = Way::open(&database, &seattle, SHORT).await;
        let long = Way::open(&database, &seattle, LONG).await;
        Self { database, watch, seattle, short, long, tally: Tally::default(), complaints: Vec::new() }
    }

    async fn family(&mut self, name: &str, layers: &[Layers]) {
        for hostile in corpus::family(name).statements {
            if hostile.since > self.watch.version {
                continue;
            }
            for &layers in layers {
                let mut complaints = Vec::new();
                self.try_one(name, &hostile, layers, &mut complaints).await;
                let label = format!("{name} | {} | {}", hostile.name, layers.name());
                self.complaints.extend(complaints.into_iter().map(|complaint| format!("{label} | {complaint}")));
            }
        }
        let mut complaints = Vec::new();
        self.watch.compare_everything(&mut complaints).await;
        self.complaints.extend(complaints.into_iter().map(|complaint| format!("{name} | {complaint}")));
    }

    async fn try_one(&mut self, family: &str, hostile: &Hostile, layers: Layers, complaints: &mut Vec<String>) {
        let without_xml = Outcome::Error("0A000".to_owned());
        let expected = match layers.expected(hostile) {
            Outcome::Refused => &Outcome::Refused,
            _ if hostile.xml && !self.watch.has_xml => &without_xml,
            other => other,
        };
        let way = if expected.takes_long() { &self.short } else { &self.long };
        let before = self.watch.look(LONG, complaints).await;
        let started = Instant::now();
        let outcome = way.run(&self.seattle, hostile, layers).await;
        let took = started.elapsed();

        let came = Outcome::of(&outcome);
        if took > Duration::from_secs(1) {
            println!("{took:.1?} for {family}, {}", hostile.name);
        }
        let told = match &outcome {
            Ok(answer) => {
                json!([answer.columns.iter().map(|c| &c.name).collect::<Vec<_>>(), answer.rows.values()]).to_string()
            }
            Err(error) => format!("{error:?}"),
        };
        if !came.is_meant_by(expected) {
            let told: String = told.chars().take(300).collect();
            complaints.push(format!("{came}, not {expected}: {told}"));
        }
        if let (Some(rows), Ok(answer)) = (&hostile.rows, &outcome)
            && *rows != json!(answer.rows.values())
        {
            complaints.push(format!("other rows: {}", json!(answer.rows.values())));
        }
        let shown = self.watch.secrets_in(&told);
        if !shown.is_empty() && *expected != Outcome::Effect(Effect::Neighbour) {
            complaints.push(format!("shows {shown:?}"));
        }

        let after = self.watch.look(Duration::from_secs(10), complaints).await;
        self.watch.compare(&before, &after, complaints).await;
        if let Outcome::Effect(effect) = expected {
            let seen = Seen { answer: outcome.as_ref().ok(), took, limit: way.limit, before: &before, after: &after };
            let (watch, database) = (&mut self.watch, &self.database);
            if let Err(why) = effect.is_as_known(&seen, watch, database, &way.db, &self.seattle).await {
                complaints.push(why);
            }
        } else if let Some(code) = self.watch.neighbour_ended(&self.database).await {
            complaints.push(format!("another call was ended with {code}"));
        }
        match session(&way.db, &self.seattle).await {
            Ok(rows) if rows == way.session => {}
            other => complaints.push(format!("the next call saw {other:?}, not {:?}", way.session)),
        }
        self.tally.count(family, layers.name(), expected);
    }

    async fn end(self) {
        println!("{}", self.tally);
        assert!(self.complaints.is_empty(), "{} complaints\n{}", self.complaints.len(), self.complaints.join("\n"));
        self.watch.wakes().await;
    }
}

#[test]
fn the_corpus_is_whole() {
    let families = corpus::read();
    let mut names = HashSet::new();
    let mut texts = HashSet::new();
    for family in &families {
        assert!(family.statements.len() >= family.minimum, "{} has {}", family.name, family.statements.len());
        assert!(family.minimum >= 10, "{}", family.name);
        for hostile in &family.statements {
            assert!(names.insert(format!("{}: {}", family.name, hostile.name)), "{} twice", hostile.name);
            assert!(texts.insert(&hostile.sql), "{}: {} has the text of another", family.name, hostile.name);
        }
    }
    assert!(families.len() >= 12 && texts.len() >= 250, "{} families, {} statements", families.len(), texts.len());
}

#[tokio::test]
async fn what_is_written_and_set_is_as_it_was() {
    let mut trial = Trial::begin().await;
    for family in ["writes", "several", "transactions", "settings", "server", "catalogs", "inference", "nested"] {
        trial.family(family, Layers::BOTH).await;
    }
    trial.end().await;
}

#[tokio::test]
async fn no_dress_hides_a_call() {
    let mut trial = Trial::begin().await;
    for family in ["dress", "functions"] {
        trial.family(family, Layers::BOTH).await;
    }
    trial.end().await;
}

#[tokio::test]
async fn work_without_end_is_ended() {
    let mut trial = Trial::begin().await;
    trial.family("time", Layers::BOTH).await;
    trial.end().await;
}

// With all layers it is the server's turn, in `memory.rs`.
#[tokio::test]
async fn what_is_huge_is_cut() {
    let mut trial = Trial::begin().await;
    trial.family("huge", &[Layers::PostgresAlone]).await;
    trial.end().await;
}
