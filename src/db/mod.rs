//! The database: the only room that speaks SQL. User data is reached from a [`Caller`] alone, through the transaction
//! of `caller_tx.rs`; the pool is nobody else's. Never waits for another service while it holds a connection.

mod admission;
mod caller_tx;
mod catalog;
mod connection;
mod error;
mod exact_json;
mod examine;
mod facts;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod observed;
mod pipeline;
mod posture;
mod recall;
mod rows;
mod search;
mod silence;
mod statement;
mod stream;
mod tls;
mod value;
mod wire;

pub mod admin;
pub mod bulk;
pub mod migrate;
pub mod principals;
pub mod tokens;
pub mod vectors;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use deadpool::Runtime;
use deadpool::managed::{Pool, PoolConfig, Timeouts};
use futures_util::FutureExt;

pub use caller_tx::{Answer, Column, Truncation};
pub use catalog::{Catalog, Key, KnownValues, Table, TableColumn};
pub use connection::{Password, PasswordSource};
pub use error::{DbError, ErrorResponse, Fault, SqlMistake};
pub use examine::{Examined, TablePolicies};
pub use posture::Problem;
pub use recall::{Recall, VectorIndex};
pub use rows::Rows;
pub use search::{Found, Search, Target};
pub use statement::{Statement, StatementError};
pub use tls::{Tls, TlsError};

use crate::config::{DatabaseSettings, LimitSettings};
use crate::domain::{ByteLimit, RowLimit, SearchSource, ValueHint};
use crate::identity::{Caller, Claim, KeySource, SigningKeys};
use crate::telemetry::start::{self, Phase};
use crate::telemetry::{Kind, Span, measure};
use admission::Admission;
use caller_tx::{Opening, run_queries, run_statement};
use connection::{Attempts, Connection, ConnectionManager, Lease};
use facts::ServerFacts;
use observed::{Observed, Operation};
use pipeline::Row;
use search::{SearchSql, models_query};
use silence::Silence;
use value::UNKNOWN_TYPE;

/// Lets the caller's call in, and runs work with the signing keys and a connection from the pool, and once more if the
/// connection turned out to be dead, the newest key unknown to the database, or its time another than was thought.
macro_rules! leased {
    ($db:ident, $caller:expr, $operation:expr, |$lease:ident, $keys:ident| $work:expr) => {{
        let _admitted = $db.admission.admit($caller.principal()).await?;
        leased!($db, $operation, |$lease, $keys| $work)
    }};
    ($db:ident, $operation:expr, |$lease:ident, $keys:ident| $work:expr) => {{
        let mut attempts = Attempts::default();
        loop {
            let $keys = $db.keys().await?;
            let $lease = Lease::take(&$db.pool).await?;
            let outcome = {
                let work = std::pin::pin!(async { $work });
                $db.observed.operation($operation, work).await
            };
            if matches!(outcome, Err(DbError::UnknownKey(_))) {
                $db.keys.refused();
            }
            if matches!(outcome, Err(DbError::Expired(_))) {
                write(&$db.facts, None);
            }
            if let Some(outcome) = $lease.settle(outcome, &mut attempts) {
                break outcome;
            }
        }
    }};
}

use leased;

/// Whether the login role can admit a caller and become the reader.
const READY: &str = "select to_regprocedure('rowgate.admit(text)') is not null
                        and coalesce(pg_has_role(current_user, to_regrole('rowgate_reader'), 'member'), false)";

/// The database, as callers use it.
pub struct Db {
    pool: Pool<ConnectionManager>,
    observed: Observed,
    tls: bool,
    admission: Admission,
    keys: Arc<dyn KeySource>,
    opening: Opening,
    result_bytes: ByteLimit,
    facts: RwLock<Option<Arc<ServerFacts>>>,
    catalog: RwLock<Option<Arc<Catalog>>>,
}

/// Tables that were asked for, with the values that this caller sees in them.
#[derive(Debug)]
pub struct Described {
    /// All tables there are.
    pub catalog: Arc<Catalog>,
    /// Values of the tables asked for.
    pub values: Vec<KnownValues>,
}

impl Db {
    /// Prepares to connect; connects on the first call. `password`: where the login role's comes from, if not from
    /// `config`.
    pub fn new(
        config: tokio_postgres::Config,
        settings: &DatabaseSettings,
        limits: &LimitSettings,
        search_path: &[String],
        keys: Arc<dyn KeySource>,
        password: Option<Arc<dyn PasswordSource>>,
    ) -> Result<Self, DbError> {
        // Room for a result, and for what a statement sends beyond it before it is cut.
        let allowed = limits.result_bytes.bytes().saturating_mul(4).max(2 * 1024 * 1024);
        let timeouts = Timeouts { wait: Some(settings.pool_wait), create: None, recycle: None };
        let mut pool = PoolConfig::new(settings.pool_size);
        pool.timeouts = timeouts;
        let tls = Tls::new(&settings.tls);
        let is_protected = tls.is_for(&config);
        let observed = Observed::of(&config);
        let manager = ConnectionManager::new(config, tls, password, settings.connect, settings.lifetime, allowed);
        let pool = Pool::builder(manager)
            .config(pool)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| DbError::Unreachable(Box::new(error)))?;
        observed.watch(&pool);
        let silence = Silence::new(pool.clone(), settings.pool_wait);
        Ok(Self {
            pool,
            observed,
            tls: is_protected,
            admission: Admission::new(
                settings.calls,
                settings.calls_per_caller,
                settings.pool_size,
                settings.pool_wait,
            ),
            keys,
            opening: Opening::new(limits.statement, silence, search_path),
            result_bytes: limits.result_bytes,
            facts: RwLock::new(None),
            catalog: RwLock::new(None),
        })
    }

    /// Runs a caller's statement, after a look at what it says.
    pub async fn query(&self, caller: &Caller, sql: &str, rows: RowLimit) -> Result<Answer, DbError> {
        leased!(self, caller, Operation::Query, |lease, keys| {
            let facts = self.facts(lease.connection()?).await?;
            let statement = Statement::check(sql, &facts.volatile)?;
            self.run(&lease, &facts.sign(&keys, caller), &facts, &statement, rows).await
        })
    }

    /// Runs a statement that was checked before, or on purpose not.
    pub async fn query_checked(
        &self,
        caller: &Caller,
        statement: &Statement,
        rows: RowLimit,
    ) -> Result<Answer, DbError> {
        leased!(self, caller, Operation::Query, |lease, keys| {
            let facts = self.facts(lease.connection()?).await?;
            self.run(&lease, &facts.sign(&keys, caller), &facts, statement, rows).await
        })
    }

    async fn run(
        &self,
        lease: &Lease,
        claim: &Claim,
        facts: &ServerFacts,
        statement: &Statement,
        rows: RowLimit,
    ) -> Result<Answer, DbError> {
        let connection = lease.connection()?;
        let answer = run_statement(connection, &self.opening, claim, facts, statement, rows, self.result_bytes).await?;
        if answer.columns.iter().any(|column| column.type_name == UNKNOWN_TYPE) {
            // A type that was made after the facts were read: the next call reads them again.
            write(&self.facts, None);
        }
        Ok(answer)
    }

    /// All tables, and the values that this caller sees in those of them that `wanted` picks. One round trip as long as
    /// the catalog has not changed.
    pub async fn describe(
        &self,
        caller: &Caller,
        hints: &[ValueHint],
        wanted: impl Fn(&Catalog) -> Vec<String> + Send + Sync,
    ) -> Result<Described, DbError> {
        leased!(self, caller, Operation::Describe, |lease, keys| {
            let facts = self.facts(lease.connection()?).await?;
            let sign = || facts.sign(&keys, caller);
            self.describe_on(&lease, &sign, hints, &wanted).await
        })
    }

    async fn describe_on(
        &self,
        lease: &Lease,
        sign: &(dyn Fn() -> Claim + Send + Sync),
        hints: &[ValueHint],
        wanted: &(dyn Fn(&Catalog) -> Vec<String> + Send + Sync),
    ) -> Result<Described, DbError> {
        let connection = lease.connection()?;
        let mut known = read(&self.catalog);
        measure::looked_up("catalog", known.is_some());
        // The second time round the catalog is fresh; should it change in between, the next call finds out.
        for last in [false, true] {
            let catalog = match known.take() {
                Some(catalog) => catalog,
                None => self.read_catalog(connection, &sign()).await?,
            };
            let names = wanted(&catalog);
            let tables: Vec<&Table> = names.iter().filter_map(|name| catalog.find(name)).collect();
            let (values, mut queries): (Vec<_>, Vec<_>) = KnownValues::wanted(&tables, hints).into_iter().unzip();
            queries.insert(0, Catalog::version_query());

            let mut answers = run_queries(connection, &self.opening, &sign(), &queries).await?.into_iter();
            let version = answers.next().ok_or(DbError::Shape("no version"))?;
            if Catalog::read_version(&version)? == catalog.version() || last {
                let values = values.into_iter().zip(answers).map(|(values, rows)| values.read(&rows));
                return Ok(Described { values: values.collect::<Result<_, _>>()?, catalog });
            }
        }
        Err(DbError::Shape("the catalog has no version"))
    }

    async fn read_catalog(&self, connection: &Connection, claim: &Claim) -> Result<Arc<Catalog>, DbError> {
        let answers = run_queries(connection, &self.opening, claim, &Catalog::queries()).await?;
        let answers = answers.try_into().map_err(|_| DbError::Shape("as many answers as queries"))?;
        let catalog = Arc::new(Catalog::read(answers)?);
        write(&self.catalog, Some(Arc::clone(&catalog)));
        Ok(catalog)
    }

    /// Finds rows, the nearest first and those of a code that was typed before them. One round trip.
    pub async fn search(&self, caller: &Caller, search: &Search<'_>) -> Result<Vec<Found>, DbError> {
        leased!(self, caller, Operation::Search, |lease, keys| {
            let connection = lease.connection()?;
            let facts = self.facts(connection).await?;
            let sql = SearchSql::of(search, &facts)?;
            let claim = facts.sign(&keys, caller);
            let answers = run_queries(connection, &self.opening, &claim, &sql.queries()).await?;
            answers.last().into_iter().flatten().map(Found::read).collect()
        })
    }

    /// The models that have vectors, and how many each.
    pub async fn search_models(&self, caller: &Caller, source: &SearchSource) -> Result<Vec<(String, i64)>, DbError> {
        leased!(self, caller, Operation::Search, |lease, keys| {
            let connection = lease.connection()?;
            let claim = self.facts(connection).await?.sign(&keys, caller);
            let queries = [models_query(source)];
            let answers = run_queries(connection, &self.opening, &claim, &queries).await?;
            let read = |row: &Row| Ok::<_, Fault>((row.get(0)?, row.get(1)?));
            answers.last().into_iter().flatten().map(read).collect::<Result<_, _>>().map_err(DbError::unreadable)
        })
    }

    /// Whether the database answers and knows the reader role. Says nothing of any caller's data.
    pub async fn check_ready(&self) -> Result<(), DbError> {
        leased!(self, Operation::Ready, |lease, _keys| {
            let connection = lease.connection()?;
            let ready = async { connection.query_typed(READY, &[]).await.map_err(DbError::of_ours) };
            let rows = self.opening.silence().soon(connection, ready).await?;
            match rows.first().map(|row| row.try_get(0)) {
                Some(Ok(true)) => self.facts(connection).await.map(|_| ()),
                _ => Err(DbError::Shape("the schema rowgate or the membership of rowgate_reader is missing")),
            }
        })
    }

    /// What is known of the server; read on the first call, and again when it has aged.
    async fn facts(&self, connection: &Connection) -> Result<Arc<ServerFacts>, DbError> {
        match read(&self.facts) {
            Some(facts) if !facts.stale() => {
                measure::looked_up("facts", true);
                Ok(facts)
            }
            _ => {
                measure::looked_up("facts", false);
                let began = Instant::now();
                // Boxed, since every call would carry the room for it.
                let mut reading = Box::pin(self.opening.silence().soon(connection, ServerFacts::read(connection)));
                let facts = Arc::new(Span::begin(Kind::Client, "facts").around(reading.as_mut()).await?);
                start::spent(Phase::Facts, began.elapsed());
                write(&self.facts, Some(Arc::clone(&facts)));
                Ok(facts)
            }
        }
    }

    /// The keys that sign claims. Where they have to be fetched first, the first connection is made meanwhile; nobody
    /// holds one while waiting.
    async fn keys(&self) -> Result<Arc<SigningKeys>, DbError> {
        let mut fetching = self.keys.keys();
        if let Some(keys) = (&mut fetching).now_or_never() {
            return Ok(keys?);
        }
        let connecting = Box::pin(async {
            if self.pool.status().size == 0 {
                Lease::take(&self.pool).await?.give_back();
            }
            Ok::<_, DbError>(())
        });
        let (keys, ()) = tokio::try_join!(async { Ok(fetching.await?) }, connecting)?;
        Ok(keys)
    }

    /// The tables whose names stand in a text, as far as is known: for the record of a call, not for a decision.
    pub fn mentioned(&self, sql: &str) -> Vec<String> {
        let Some(facts) = read(&self.facts) else { return Vec::new() };
        statement::mentioned(sql, &facts.exposed)
    }

    /// Closes all connections.
    pub fn close(&self) {
        self.pool.close();
    }
}

fn read<T>(slot: &RwLock<Option<Arc<T>>>) -> Option<Arc<T>> {
    slot.read().unwrap_or_else(PoisonError::into_inner).clone()
}

fn write<T>(slot: &RwLock<Option<Arc<T>>>, value: Option<Arc<T>>) {
    *slot.write().unwrap_or_else(PoisonError::into_inner) = value;
}
