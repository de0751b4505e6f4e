//! Search by meaning, inside the caller's transaction: the nearest vectors among the rows that pass the caller's
//! filters. None is lost to a filter: where few rows pass, their distances are all computed; where many do, the index
//! is scanned on until enough have passed; and where it gives up before, every row that passes is compared after all.

use tokio_postgres::types::Type;

use serde_json::Value;

use super::DbError;
use super::caller_tx::Query;
use super::facts::ServerFacts;
use super::pipeline::{Bound, Row};
use crate::domain::{FilterType, FilterValue, SearchModel, SearchSource, SearchText};

/// Up to how many rows that pass the filters are compared one by one. With many more in the table, the index would have
/// to be scanned far for enough of them; about here it gets quicker.
const COMPARED: usize = 15_000;

/// The same where there is no filter, so that the index is never scanned further than once.
const COMPARED_UNFILTERED: usize = 2_000;

/// How many rows are put in order by words and meaning together, whatever few are asked for.
pub(super) const CANDIDATES: usize = 100;

/// The plan has branches that never run, and compiling them for what they would cost takes longer than any search.
const SETTINGS: &str = "select set_config('jit', 'off', true)";

/// Besides, lets an index scan go on until enough rows have passed the filters; pgvector 0.8.0 and later. `ef_search` is
/// how wide it looks and how much it finds at a time; `strict_order` would drop what is found late.
pub(super) const SETTINGS_SCANNING_ON: &str = "select set_config('jit', 'off', true), \
                                    set_config('hnsw.iterative_scan', 'relaxed_order', true), \
                                    set_config('hnsw.ef_search', '600', true), \
                                    set_config('hnsw.max_scan_tuples', '20000', true), \
                                    set_config('hnsw.scan_mem_multiplier', '8', true)";

/// What is searched for.
#[derive(Clone, Debug)]
pub enum Target<'a> {
    /// The meaning of a text, as a vector of the model's dimensions.
    Vector(&'a [f32]),
    /// The words of a text, where no vector can be had.
    Words,
    /// What the row of this name or code means; the row itself is left out.
    Like,
}

/// A search: for what, where, by which model's vectors, and narrowed by what.
#[derive(Clone, Debug)]
pub struct Search<'a> {
    /// Where.
    pub source: &'a SearchSource,
    /// Whose vectors.
    pub model: &'a SearchModel,
    /// What was typed.
    pub text: &'a SearchText,
    /// What that means.
    pub target: Target<'a>,
    /// Filters of the source, with the values given.
    pub filters: Vec<(usize, FilterValue)>,
}

/// A row that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// Its code.
    pub code: String,
    /// 0 to 1, the cosine of the angle between the vectors; none if it was found by its words.
    pub similarity: Option<f64>,
    /// The source's columns.
    pub values: Vec<Value>,
}

/// A parameter of a search, owned.
enum Parameter {
    Text(String),
    Texts(Vec<String>),
    Number(f64),
    Vector(pgvector::Vector, Type),
}

/// A search as SQL.
pub(super) struct SearchSql {
    sql: String,
    parameters: Vec<Parameter>,
    scans_on: bool,
}

impl SearchSql {
    /// Writes a search. Only the profile's own text and numbers of ours get into the SQL; what a caller gives is bound.
    pub(super) fn of(search: &Search<'_>, facts: &ServerFacts) -> Result<Self, DbError> {
        let SearchSource { source, key, name, code, vectors, vector_key, vector, columns, text, .. } = search.source;
        let mut parameters = Vec::new();
        let mut bind = |parameter: Parameter| {
            parameters.push(parameter);
            format!("${}", parameters.len())
        };
        let conditions: Vec<String> = search
            .filters
            .iter()
            .filter_map(|(n, value)| {
                let filter = search.source.filters.get(*n)?;
                let bound = match (filter.r#type, value) {
                    (FilterType::Text, FilterValue::Text(text)) => bind(Parameter::Text(text.clone())),
                    (FilterType::Number, FilterValue::Number(number)) => bind(Parameter::Number(*number)),
                    _ => String::new(),
                };
                Some(format!("({})", filter.condition.replace("$value", &bound)))
            })
            .collect();
        let passes = if conditions.is_empty() { "true".to_owned() } else { conditions.join(" and ") };
        let compared = if conditions.is_empty() { COMPARED_UNFILTERED } else { COMPARED };
        let dimensions = search.model.dimensions;
        let of_model = |e: &str| format!("{e}.{vector}::vector({dimensions})");
        let codes = bind(Parameter::Texts(search.text.codes()));

        let nearest = match search.target {
            Target::Words => {
                let words = bind(Parameter::Texts(search.text.words().map(str::to_owned).collect()));
                // How many of the words a row has, and among equals how well it has them.
                format!(
                    "texts as (
                         select {key} as key,
                                setweight(to_tsvector('english', {name}), 'A') || to_tsvector('english', {text}) as text
                           from {source} where {passes}),
                     ranked as (
                         select key, sum(1 + ts_rank_cd(text, plainto_tsquery('english', word))) as rank
                           from texts, unnest({words}) word
                          where text @@ plainto_tsquery('english', word) group by key),
                     nearest as (
                         select key, null::float8 as distance, rank::float8 from ranked
                          order by rank desc limit {CANDIDATES})"
                )
            }
            Target::Vector(numbers) => {
                let model = bind(Parameter::Text(search.model.name.clone()));
                let of = facts.vector_type().ok_or(DbError::Shape("pgvector is not in this database"))?;
                let vector = bind(Parameter::Vector(pgvector::Vector::from(numbers.to_vec()), of));
                Nearest {
                    source: search.source,
                    stored: of_model("e"),
                    wanted: format!("{vector}::vector({dimensions})"),
                    eligible: format!("e.model = {model}"),
                    passes: passes.clone(),
                    compared,
                }
                .sql(facts.scans_on())
            }
            Target::Like => {
                let model = bind(Parameter::Text(search.model.name.clone()));
                let like = bind(Parameter::Text(search.text.as_str().to_owned()));
                let nearest = Nearest {
                    source: search.source,
                    stored: of_model("e"),
                    wanted: "(select vector from asked)".to_owned(),
                    eligible: format!("e.model = {model} and e.{vector_key} <> (select key from asked)"),
                    // Nothing is like a row that there is not.
                    passes: format!("{passes} and exists (select from asked)"),
                    compared,
                };
                format!(
                    "asked as materialized (
                         select l.{vector_key} as key, {} as vector from {vectors} l
                          where l.model = {model} and l.{vector_key} = (
                              select {key} from {source} where {code} = any ({codes}) or lower({name}) = lower({like})
                               order by {code} = any ({codes}) desc limit 1)),
                     {}",
                    of_model("l"),
                    nearest.sql(facts.scans_on())
                )
            }
        };
        let values: Vec<_> = columns.iter().map(|column| column.expression.as_str()).collect();
        let sql = format!(
            "with {nearest},
                 found as (
                     select key, distance, rank from nearest
                      union all
                     select {key}, null::float8, 1::float8 from {source}
                      where {code} = any ({codes}) and {passes} and {key} not in (select key from nearest))
             select {name}, {code}, distance, jsonb_build_array({})::text
               from found join ({source}) on {key} = found.key
              order by distance nulls first, rank desc",
            values.join(", "),
        );
        Ok(Self { sql, parameters, scans_on: facts.scans_on() })
    }

    /// The queries to run, the search last.
    pub(super) fn queries(&self) -> [Query<'_>; 2] {
        let bound = self.parameters.iter().map(Parameter::bound).collect();
        let settings = if self.scans_on { SETTINGS_SCANNING_ON } else { SETTINGS };
        [Query::new(settings, vec![]), Query::new(self.sql.clone(), bound)]
    }
}

/// What the nearest rows are found by, as SQL. `e` is a row of the table of vectors.
struct Nearest<'a> {
    source: &'a SearchSource,
    /// A stored vector.
    stored: String,
    /// The vector that is searched for.
    wanted: String,
    /// Which stored vectors may be found.
    eligible: String,
    /// Which rows of the source may be found.
    passes: String,
    /// Up to how many of these are compared one by one.
    compared: usize,
}

impl Nearest<'_> {
    /// Common table expressions, of which `nearest` has what was found. Which of the ways is taken is decided while the
    /// query runs, by how many rows there are, since no planner knows how many pass a filter under row-level security.
    fn sql(&self, scans_on: bool) -> String {
        let Self { stored, wanted, eligible, passes, compared, .. } = self;
        let SearchSource { source, key, vectors, vector_key, .. } = self.source;
        let distance = format!("{stored} <=> {wanted}");
        let passing = format!("exists (select from {source} where {key} = e.{vector_key} and {passes})");
        // `offset 0` keeps the index out, which would stop before enough rows have passed.
        let every = |unless: &str| {
            format!(
                "(select key, distance, 0::float8 as rank
                    from (select e.{vector_key} as key, {distance} as distance from {vectors} e
                           where {eligible} and {passing}{unless} offset 0) every
                   order by distance limit {CANDIDATES})"
            )
        };
        if !scans_on {
            return format!("nearest as materialized {}", every(""));
        }
        let every = every(" and (select yes from many) and (select yes from short)");
        // `limit 1` makes it one look-up for each row that passes, however many the planner expects.
        format!(
            "passing as materialized (
                 select {key} as key from {source} where {passes} limit {compared} + 1),
             many as materialized (select count(*) > {compared} as yes from passing),
             scanned as materialized (
                 select e.{vector_key} as key, {distance} as distance
                   from {vectors} e where {eligible} and {passing} and (select yes from many)
                  order by {distance} limit {CANDIDATES}),
             short as materialized (select count(*) < {CANDIDATES} as yes from scanned),
             nearest as materialized (
                 (select passing.key, v.distance, 0::float8 as rank
                    from passing, lateral (select {distance} as distance from {vectors} e
                                            where e.{vector_key} = passing.key and {eligible} limit 1) v
                   where not (select yes from many)
                   order by v.distance limit {CANDIDATES})
                  union all
                 (select key, distance, 0::float8 from scanned where not (select yes from short))
                  union all
                 {every})"
        )
    }
}

impl Parameter {
    fn bound(&self) -> Bound<'_> {
        match self {
            Self::Text(text) => (text, Type::TEXT),
            Self::Texts(texts) => (texts, Type::TEXT_ARRAY),
            Self::Number(number) => (number, Type::FLOAT8),
            Self::Vector(vector, of) => (vector, of.clone()),
        }
    }
}

impl Found {
    pub(super) fn read(row: &Row) -> Result<Self, DbError> {
        let values: String = row.get(3).map_err(DbError::unreadable)?;
        let distance: Option<f64> = row.get(2).map_err(DbError::unreadable)?;
        Ok(Self {
            name: row.get(0).map_err(DbError::unreadable)?,
            code: row.get(1).map_err(DbError::unreadable)?,
            similarity: distance.map(|distance| 1.0 - distance),
            values: serde_json::from_str(&values).map_err(|_| DbError::Shape("a row that is no JSON"))?,
        })
    }
}

/// Asks which models have vectors, and how many.
pub(super) fn models_query(source: &SearchSource) -> Query<'static> {
    Query::new(format!("select model::text, count(*) from {} group by model order by model", source.vectors), vec![])
}
