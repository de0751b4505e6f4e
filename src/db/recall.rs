//! Whether a model's stored vectors are found: for `rowgate doctor`, never part of a call. Reads only, as the caller,
//! and no more rows and no longer than is said here, so that a server in use hardly notices.

use std::collections::HashMap;

use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::caller_tx::{Query, run_queries};
use super::connection::{Attempts, Lease};
use super::error::Fault;
use super::observed::Operation;
use super::pipeline::Row;
use super::search::{CANDIDATES, SETTINGS_SCANNING_ON};
use super::vectors::IndexNames;
use super::{Db, DbError, leased, write};
use crate::domain::{SearchModel, SearchSource};
use crate::identity::Caller;

/// How many vectors neighbours are looked for.
const SAMPLE: usize = 5;

/// How many neighbours of each.
const NEIGHBOURS: usize = 10;

/// Up to how many vectors are compared one by one.
const COMPARED: usize = 100_000;

/// As a search has it, on the index even where there are so few rows that a search would not take it; and each query
/// within five seconds.
const BY_INDEX: &str = "select set_config('statement_timeout', '5000', true), set_config('enable_seqscan', 'off', true), \
                               set_config('enable_bitmapscan', 'off', true), set_config('enable_sort', 'off', true)";

/// The same rows without any index.
const BY_COMPARING: &str = "select set_config('enable_seqscan', 'on', true), set_config('enable_sort', 'on', true), \
                                   set_config('enable_indexscan', 'off', true)";

/// $1 is the name as it is now, $2 as it was.
const INDEX: &str = "select format('%I.%I', n.nspname, c.relname), i.indisvalid and i.indisready, c.relname = $1
   from pg_catalog.pg_index i
   join pg_catalog.pg_class c on c.oid = i.indexrelid
   join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where c.relname in ($1, $2) order by 3 desc limit 1";

/// The index of a model's vectors, by its qualified name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VectorIndex {
    /// It can be searched.
    Valid(String),
    /// It can be searched and finds less than one of now.
    Earlier(String),
    /// It is not used, as the making of it did not end well.
    Invalid(String),
    /// There is none.
    Missing,
}

/// What part of the nearest rows an index finds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Recall {
    /// Of the nearest ten rows of each of `sample` vectors, 0 to 1.
    Measured {
        /// The part.
        share: f64,
        /// How many vectors.
        sample: usize,
    },
    /// More vectors than this are not compared one by one.
    TooMany(usize),
    /// There is no vector with a neighbour.
    TooFew,
    /// pgvector before 0.8 loses rows to a filter, so no search uses an index.
    Unused,
}

impl Db {
    /// Looks for the index of a model, without a caller.
    pub async fn vector_index(&self, model: &SearchModel) -> Result<VectorIndex, DbError> {
        let IndexNames { wide, narrow } = IndexNames::of(model);
        let lease = Lease::take(&self.pool).await?;
        let rows = lease.connection()?.query_typed(INDEX, &[(&wide, Type::TEXT), (&narrow, Type::TEXT)]).await;
        lease.give_back();
        let rows = rows.map_err(DbError::of_ours)?;
        let Some(row) = rows.first() else { return Ok(VectorIndex::Missing) };
        let read = || Ok::<_, tokio_postgres::Error>((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
        Ok(match read().map_err(DbError::unreadable)? {
            (name, false, _) => VectorIndex::Invalid(name),
            (name, true, true) => VectorIndex::Valid(name),
            (name, true, false) => VectorIndex::Earlier(name),
        })
    }

    /// Compares what the index finds for a few stored vectors with what comparing every row finds, as a caller.
    pub async fn recall(&self, caller: &Caller, source: &SearchSource, model: &SearchModel) -> Result<Recall, DbError> {
        let (count, by_index, by_comparing) = (count(source), by_index(source, model), by_comparing(source, model));
        let outcome = leased!(self, caller, Operation::Search, |lease, keys| {
            let connection = lease.connection()?;
            let facts = self.facts(connection).await?;
            if !facts.scans_on() {
                return Ok(Recall::Unused);
            }
            let of_model = |sql: &String| Query::new(sql.clone(), vec![(&model.name, Type::TEXT)]);
            let setting = |sql: &'static str| Query::new(sql, vec![]);
            let queries = [
                setting(SETTINGS_SCANNING_ON),
                setting(BY_INDEX),
                of_model(&count),
                of_model(&by_index),
                setting(BY_COMPARING),
                of_model(&by_comparing),
            ];
            let answers = run_queries(connection, &self.opening, &facts.sign(&keys, caller), &queries).await?;
            match answers.as_slice() {
                [_, _, count, found, _, nearest] => Recall::of(count, found, nearest).map_err(DbError::unreadable),
                _ => Err(DbError::Shape("as many answers as queries")),
            }
        });
        match outcome {
            Err(DbError::Internal(error)) if error.code() == Some(&SqlState::QUERY_CANCELED) => Err(DbError::TimedOut),
            outcome => outcome,
        }
    }
}

impl Recall {
    /// Rows count as found if they are as near as the farthest of the nearest: which of several that are equally near
    /// comes first means nothing.
    fn of(count: &[Row], found: &[Row], nearest: &[Row]) -> Result<Self, Fault> {
        let count: i64 = count.first().map_or(Ok(0), |row| row.get(0))?;
        if count > COMPARED as i64 {
            return Ok(Self::TooMany(COMPARED));
        }
        let (found, nearest) = (distances(found)?, distances(nearest)?);
        let all: usize = nearest.values().map(Vec::len).sum();
        if all == 0 {
            return Ok(Self::TooFew);
        }
        let hits: usize = nearest
            .iter()
            .map(|(key, nearest)| {
                let farthest = nearest.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let found = found.get(key).into_iter().flatten().filter(|distance| **distance <= farthest);
                found.count().min(nearest.len())
            })
            .sum();
        Ok(Self::Measured { share: hits as f64 / all as f64, sample: nearest.len() })
    }
}

/// The distances of the neighbours of each vector, by its key.
fn distances(rows: &[Row]) -> Result<HashMap<String, Vec<f64>>, Fault> {
    let mut distances: HashMap<_, Vec<_>> = HashMap::new();
    for row in rows {
        distances.entry(row.get(0)?).or_default().push(row.get(1)?);
    }
    Ok(distances)
}

/// How many vectors there are, as far as that matters.
fn count(source: &SearchSource) -> String {
    format!("select count(*) from (select from {} where model = $1 limit {COMPARED} + 1) counted", source.vectors)
}

/// A sample that is the same each time, from all over the table; none where there are too many vectors.
fn asked(source: &SearchSource, model: &SearchModel) -> String {
    let SearchSource { vectors, vector_key, vector, .. } = source;
    format!(
        "stored as materialized (
             select {vector_key} as key from {vectors} where model = $1 limit {COMPARED} + 1),
         sampled as materialized (
             select key from stored where (select count(*) from stored) <= {COMPARED}
              order by md5(key::text) limit {SAMPLE}),
         asked as materialized (
             select key, e.{vector}::vector({}) as vector
               from sampled join {vectors} e on e.{vector_key} = key and e.model = $1)",
        model.dimensions
    )
}

/// Key of the sample and distance of a neighbour: a comparison that the index is made for, or one that it is not.
fn neighbours(source: &SearchSource, model: &SearchModel, nearest: &str) -> String {
    let SearchSource { vectors, vector_key, vector, .. } = source;
    format!(
        "with {}
         select asked.key::text, near.distance
           from asked, lateral (
               select found.distance
                 from (select e.{vector}::vector({}) <=> asked.vector as distance
                         from {vectors} e where e.model = $1 and e.{vector_key} <> asked.key {nearest}) found
                order by found.distance + 0 limit {NEIGHBOURS}) near",
        asked(source, model),
        model.dimensions
    )
}

/// As `search.rs` scans: as many candidates, roughly in order, put in order afterwards.
fn by_index(source: &SearchSource, model: &SearchModel) -> String {
    neighbours(source, model, &format!("order by 1 limit {CANDIDATES}"))
}

/// `offset 0` keeps the index out whatever the settings.
fn by_comparing(source: &SearchSource, model: &SearchModel) -> String {
    neighbours(source, model, "offset 0")
}
