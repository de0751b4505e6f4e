//! What the two search tools share: arguments by the profile's filters, the vector before the connection, the words'
//! answer where there is no vector, and the order of what was found.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::error::ToolError;
use super::tools::{Structured, keep_place, rows_schema};
use super::{McpServer, Searching};
use crate::db::{Found, Rows, Search, Target};
use crate::domain::{FilterType, FilterValue, Fit, SearchSource, SearchText};
use crate::identity::Caller;

/// How long a search waits for the vector of its words before it makes do with the words.
const VECTOR_WAIT: Duration = Duration::from_secs(4);

/// How many rows an answer has unless asked otherwise, and at most.
const ROWS: usize = 20;
const MOST_ROWS: usize = 100;

/// The arguments of a search, checked before anything is asked.
pub(super) struct Arguments {
    text: SearchText,
    rows: usize,
    /// Least similarity, 0 to 1.
    threshold: f64,
    filters: Vec<(usize, FilterValue)>,
}

/// What both tools answer.
#[derive(Serialize, JsonSchema)]
pub(super) struct Output {
    columns: Vec<OutputColumn>,
    row_count: usize,
    /// How the rows were found: "meaning", or "words" where the search by meaning does not work right now.
    by: &'static str,
    /// What to know of the answer, or to try.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    note: Option<String>,
    /// One array a row, the best first; similarity is in percent, null where words alone decided.
    #[serde(serialize_with = "keep_place")]
    #[schemars(schema_with = "rows_schema")]
    rows: Rows,
}

impl Structured for Output {
    fn rows(&self) -> Option<&Rows> {
        Some(&self.rows)
    }
}

#[derive(Serialize, JsonSchema)]
pub(super) struct OutputColumn {
    name: String,
    r#type: String,
}

/// The input schema of a search tool: its own argument, the shared ones and the profile's filters.
pub(super) fn input_schema(searching: &Searching, argument: &str, about: &str) -> Map<String, Value> {
    let threshold = searching.model.threshold;
    let mut properties = Map::new();
    properties.insert(argument.to_owned(), json!({ "type": "string", "description": about }));
    properties.insert(
        "max_rows".to_owned(),
        json!({ "type": "integer", "minimum": 1, "maximum": MOST_ROWS, "description": format!("{ROWS} unless given.") }),
    );
    properties.insert(
        "similarity_threshold".to_owned(),
        json!({ "type": "number", "minimum": 0, "maximum": 100, "description": format!("Least similarity in percent; {threshold} unless given.") }),
    );
    for filter in &searching.source.filters {
        let of = schema_type(filter.r#type);
        properties.insert(filter.name.clone(), json!({ "type": of, "description": filter.description }));
    }
    let schema = json!({
        "type": "object", "properties": properties, "required": [argument], "additionalProperties": false,
    });
    schema.as_object().cloned().unwrap_or_default()
}

fn schema_type(of: FilterType) -> &'static str {
    match of {
        FilterType::Text => "string",
        FilterType::Number => "number",
        FilterType::Flag => "boolean",
    }
}

impl Arguments {
    /// Reads arguments; `own` is the name of the tool's own, the others are shared or the profile's filters.
    pub(super) fn read(mut arguments: Map<String, Value>, own: &str, searching: &Searching) -> Result<Self, ToolError> {
        let wrong = |why: String| Err(ToolError::Search(why));
        arguments.retain(|_, value| !value.is_null());
        let text = match arguments.remove(own) {
            Some(Value::String(text)) => SearchText::parse(&text).map_err(|why| ToolError::Search(why.to_string()))?,
            Some(_) => return wrong(format!("{own} has to be a text.")),
            None => return wrong(format!("{own} is missing: say what to look for.")),
        };
        let rows = match arguments.remove("max_rows") {
            None => ROWS,
            Some(value) => match value.as_u64().and_then(|rows| usize::try_from(rows).ok()) {
                Some(rows @ 1..=MOST_ROWS) => rows,
                _ => return wrong(format!("max_rows is {value}: ask for 1 to {MOST_ROWS} rows.")),
            },
        };
        let percent = match arguments.remove("similarity_threshold") {
            None => searching.model.threshold,
            Some(value) => match value.as_f64() {
                Some(percent) if (0.0..=100.0).contains(&percent) => percent,
                _ => return wrong(format!("similarity_threshold is {value}: it is a percentage, 0 to 100.")),
            },
        };
        Ok(Self { text, rows, threshold: percent / 100.0, filters: filters(&arguments, &searching.source)? })
    }
}

fn filters(given: &Map<String, Value>, source: &SearchSource) -> Result<Vec<(usize, FilterValue)>, ToolError> {
    let mut filters = Vec::new();
    for (name, value) in given {
        let Some((n, filter)) = source.filters.iter().enumerate().find(|(_, filter)| filter.name == *name) else {
            let known: Vec<_> = source.filters.iter().map(|filter| filter.name.as_str()).collect();
            return Err(ToolError::Search(format!(
                "There is no argument {name:?}. The filters are: {}.",
                known.join(", ")
            )));
        };
        let value = match (filter.r#type, value) {
            (FilterType::Text, Value::String(text)) => FilterValue::Text(text.clone()),
            (FilterType::Number, Value::Number(number)) => FilterValue::Number(number.as_f64().unwrap_or_default()),
            (FilterType::Flag, Value::Bool(true)) => FilterValue::Flag,
            (FilterType::Flag, Value::Bool(false)) => continue,
            (of, _) => return Err(ToolError::Search(format!("{name} has to be a {}.", schema_type(of)))),
        };
        filters.push((n, value));
    }
    Ok(filters)
}

/// Finds what a text means.
pub(super) async fn by_meaning(
    server: &McpServer,
    caller: &Caller,
    searching: &Searching,
    arguments: &Arguments,
) -> Result<Output, ToolError> {
    let Arguments { text, filters, .. } = arguments;
    let filters = filters.clone();
    // The vector first, the connection then: none is held while another service is waited for.
    let vector = match tokio::time::timeout(VECTOR_WAIT, searching.vectors.vector(text.as_str())).await {
        Ok(Ok(vector)) => Some(vector),
        Ok(Err(error)) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "no vector; searching by words");
            None
        }
        Err(_) => {
            tracing::warn!("no vector in time; searching by words");
            None
        }
    };
    let target = vector.as_deref().map_or(Target::Words, Target::Vector);
    let search = Search { source: &searching.source, model: &searching.model, text, target, filters };
    let found = server.0.db.search(caller, &search).await?;
    if found.is_empty() && vector.is_some() {
        explain_nothing(server, caller, searching).await?;
    }
    output(searching, arguments, found, |row| text.fit(&row.name, &row.code), vector.is_some())
}

/// Finds what is like the row of a name or code.
pub(super) async fn like(
    server: &McpServer,
    caller: &Caller,
    searching: &Searching,
    arguments: &Arguments,
) -> Result<Output, ToolError> {
    let Arguments { text, filters, .. } = arguments;
    let filters = filters.clone();
    let search = Search { source: &searching.source, model: &searching.model, text, target: Target::Like, filters };
    let found: Vec<Found> =
        server.0.db.search(caller, &search).await?.into_iter().filter(|row| row.similarity.is_some()).collect();
    if found.is_empty() {
        explain_nothing(server, caller, searching).await?;
        let words = Search { target: Target::Words, filters: Vec::new(), ..search };
        let near = server.0.db.search(caller, &words).await?;
        let near: Vec<_> = near.iter().take(3).map(|row| format!("{} ({})", row.name, row.code)).collect();
        let near = if near.is_empty() { String::new() } else { format!(" Did you mean {}?", near.join(" or ")) };
        return Err(ToolError::Search(format!(
            "Nothing has the name or code {:?}, or nothing like it passes the filters.{near}",
            text.as_str()
        )));
    }
    output(searching, arguments, found, |_| Fit::Meaning, true)
}

/// A model without vectors finds nothing whatever is asked, which is nobody's fault who asks.
async fn explain_nothing(server: &McpServer, caller: &Caller, searching: &Searching) -> Result<(), ToolError> {
    let models = server.0.db.search_models(caller, &searching.source).await?;
    let wanted = &searching.model.name;
    if models.iter().any(|(model, _)| model == wanted) {
        return Ok(());
    }
    let there: Vec<_> = models.iter().map(|(model, rows)| format!("{model} ({rows} rows)")).collect();
    let there = if there.is_empty() { "none at all".to_owned() } else { there.join(", ") };
    Err(ToolError::Search(format!(
        "Nothing is indexed for the model {wanted} yet; there is {there}. The operator of this server runs `rowgate embed`."
    )))
}

fn output(
    searching: &Searching,
    arguments: &Arguments,
    found: Vec<Found>,
    fit: impl Fn(&Found) -> Fit,
    by_meaning: bool,
) -> Result<Output, ToolError> {
    let mut ranked: Vec<(Fit, Found)> = found.into_iter().map(|row| (fit(&row), row)).collect();
    // Stable: within a fit, the order of the distances or ranks stays.
    ranked.sort_by_key(|(fit, _)| *fit);
    let close_enough =
        |(fit, row): &(Fit, Found)| *fit < Fit::Meaning || row.similarity.is_none_or(|s| s >= arguments.threshold);
    let before = ranked.len();
    ranked.retain(close_enough);
    let note = if !by_meaning {
        Some("Search by meaning does not work right now; these rows share words with the description.".to_owned())
    } else if ranked.is_empty() && before > 0 {
        Some(
            "Nothing is similar enough: describe it in other words, lower similarity_threshold, or drop a filter."
                .to_owned(),
        )
    } else if ranked.is_empty() {
        Some("Nothing passes the filters.".to_owned())
    } else {
        None
    };
    let rows: Vec<Vec<Value>> = ranked
        .into_iter()
        .take(arguments.rows)
        .map(|(_, row)| {
            let similarity = row.similarity.map(|similarity| (similarity * 1000.0).round() / 10.0);
            row.values.into_iter().chain([similarity.map_or(Value::Null, Value::from)]).collect()
        })
        .collect();
    let columns = searching.source.columns.iter().map(|column| (column.name.as_str(), column.r#type.as_str()));
    let columns = columns.chain([("similarity", "float8")]);
    Ok(Output {
        columns: columns.map(|(name, of)| OutputColumn { name: name.to_owned(), r#type: of.to_owned() }).collect(),
        row_count: rows.len(),
        rows: Rows::from(rows.as_slice()),
        by: if by_meaning { "meaning" } else { "words" },
        note,
    })
}
