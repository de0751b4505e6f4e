//! The tables that a caller may ask of: columns, keys, comments. Read inside a caller's transaction, so that it is the
//! reader role's view; kept until the catalog changes. Values of rows are never kept: they depend on the caller.

use tokio_postgres::types::{FromSql, Type};

use super::DbError;
use super::caller_tx::Query;
use super::pipeline::Row;
use crate::domain::ValueHint;

/// Tables with fewer rows have the values of their unique text columns listed.
const LOOKUP_ROWS: f64 = 200.0;

/// How many values of a column are listed at most.
const LISTED_VALUES: i32 = 100;

/// The tables that the transaction's role may see and that row-level security protects, as the first part of a query.
macro_rules! visible {
    ($rest:literal) => {
        concat!(
            "with visible as (
                select c.oid, c.xmin, c.relkind, c.relname, n.nspname, c.reltuples
                  from pg_catalog.pg_class c
                  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                 where n.nspname not in ('pg_catalog', 'information_schema', 'rowgate')
                   and n.nspname not like 'pg\\_%'
                   and has_schema_privilege(n.oid, 'usage')
                   and has_table_privilege(c.oid, 'select')
                   and (c.relkind in ('r', 'p') and c.relrowsecurity and c.relforcerowsecurity
                        or c.relkind = 'v'
                           and c.reloptions::text[] && array['security_invoker=true', 'security_invoker=on'])
             ) ",
            $rest
        )
    };
}

/// Changes whenever a visible table does: the transactions that last wrote its catalog rows.
const VERSION: &str = visible!(
    "select md5(concat(
        (select string_agg(concat(oid, ':', xmin), ',' order by oid) from visible), '/',
        (select string_agg(concat(attrelid, ':', attnum, ':', xmin), ',' order by attrelid, attnum)
           from pg_catalog.pg_attribute where attnum > 0 and attrelid in (select oid from visible)), '/',
        (select string_agg(concat(oid, ':', xmin), ',' order by oid)
           from pg_catalog.pg_constraint where conrelid in (select oid from visible)), '/',
        (select string_agg(concat(objoid, ':', objsubid, ':', xmin), ',' order by objoid, objsubid)
           from pg_catalog.pg_description where objoid in (select oid from visible))))"
);

const TABLES: &str = visible!(
    "select oid, nspname::text, relname::text, relkind::text, obj_description(oid, 'pg_class'), reltuples::float8
       from visible order by nspname, relname"
);

const COLUMNS: &str = visible!(
    "select a.attrelid, a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull,
            col_description(a.attrelid, a.attnum), t.typcategory = 'S',
            (select array_agg(e.enumlabel::text order by e.enumsortorder)
               from pg_catalog.pg_enum e where e.enumtypid = a.atttypid)
       from visible v
       join pg_catalog.pg_attribute a on a.attrelid = v.oid
       join pg_catalog.pg_type t on t.oid = a.atttypid
      where a.attnum > 0 and not a.attisdropped and has_column_privilege(a.attrelid, a.attnum, 'select')
      order by a.attrelid, a.attnum"
);

const KEYS: &str = visible!(
    "select k.conrelid, k.contype::text,
            (select array_agg(a.attname::text order by u.n)
               from unnest(k.conkey) with ordinality u (attnum, n)
               join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.attnum),
            (select format('%s.%s', n.nspname, c.relname)
               from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
              where c.oid = k.confrelid),
            (select array_agg(a.attname::text order by u.n)
               from unnest(k.confkey) with ordinality u (attnum, n)
               join pg_catalog.pg_attribute a on a.attrelid = k.confrelid and a.attnum = u.attnum),
            case when k.contype = 'c' then pg_get_expr(k.conbin, k.conrelid, true) end
       from visible v
       join pg_catalog.pg_constraint k on k.conrelid = v.oid
      where k.contype in ('p', 'u', 'f', 'c')
      order by k.conrelid, k.contype, k.conname"
);

/// The catalog as of one version.
#[derive(Clone, Debug)]
pub struct Catalog {
    version: String,
    tables: Vec<Table>,
}

/// A table or view.
#[derive(Clone, Debug)]
pub struct Table {
    /// `schema.table`.
    pub name: String,
    /// Whether it is a view.
    pub is_view: bool,
    /// What its owner says of it.
    pub comment: Option<String>,
    /// Rows of all callers together, as PostgreSQL last counted; negative if it never did.
    pub row_estimate: f64,
    /// In the order of the table.
    pub columns: Vec<TableColumn>,
    /// Primary and unique keys, references, checks.
    pub keys: Vec<Key>,
}

/// A column.
#[derive(Clone, Debug)]
pub struct TableColumn {
    /// Its name.
    pub name: String,
    /// Its type, as PostgreSQL writes it.
    pub type_name: String,
    /// Whether it may not be null.
    pub not_null: bool,
    /// What its owner says of it.
    pub comment: Option<String>,
    /// The labels of its enum type.
    pub labels: Vec<String>,
    is_text: bool,
}

/// A constraint.
#[derive(Clone, Debug)]
pub enum Key {
    /// The columns of the primary key.
    Primary(Vec<String>),
    /// Columns that are unique together.
    Unique(Vec<String>),
    /// Columns that refer to another table's.
    References {
        /// Here.
        columns: Vec<String>,
        /// `schema.table`.
        table: String,
        /// There.
        target: Vec<String>,
    },
    /// A condition on the row, as PostgreSQL writes it.
    Check(String),
}

/// Values of a column, or of a profile's hint, as one caller sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownValues {
    /// `schema.table`.
    pub table: String,
    /// The column, or what the values are.
    pub label: String,
    /// In order; at most a hundred.
    pub values: Vec<String>,
}

impl Catalog {
    /// The tables, by name.
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// The table of this name, qualified or, if only one has it, not.
    pub fn find(&self, name: &str) -> Option<&Table> {
        let name = name.trim().replace('"', "");
        let exact = self.tables.iter().find(|t| t.name.eq_ignore_ascii_case(&name));
        exact.or_else(|| {
            let mut bare = self.tables.iter().filter(|t| t.bare_name().eq_ignore_ascii_case(&name));
            bare.next().filter(|_| bare.next().is_none())
        })
    }

    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// Asks for the version alone.
    pub(super) fn version_query() -> Query<'static> {
        Query::new(VERSION, vec![])
    }

    /// Reads the answer to [`Catalog::version_query`].
    pub(super) fn read_version(rows: &[Row]) -> Result<String, DbError> {
        field(rows.first().ok_or(DbError::Shape("the catalog has no version"))?, 0)
    }

    /// Asks for all of it.
    pub(super) fn queries() -> [Query<'static>; 4] {
        [VERSION, TABLES, COLUMNS, KEYS].map(|sql| Query::new(sql, vec![]))
    }

    /// Reads the answers to [`Catalog::queries`].
    pub(super) fn read([version, tables, columns, keys]: [Vec<Row>; 4]) -> Result<Self, DbError> {
        let read_table = |row: &Row| {
            let oid = field::<u32>(row, 0)?;
            Ok(Table {
                name: format!("{}.{}", field::<String>(row, 1)?, field::<String>(row, 2)?),
                is_view: field::<String>(row, 3)? == "v",
                comment: field(row, 4)?,
                row_estimate: field(row, 5)?,
                columns: of_table(&columns, oid).map(TableColumn::read).collect::<Result<_, _>>()?,
                keys: of_table(&keys, oid).map(Key::read).collect::<Result<_, _>>()?,
            })
        };
        let tables = tables.iter().map(read_table).collect::<Result<_, DbError>>()?;
        Ok(Self { version: Self::read_version(&version)?, tables })
    }
}

impl KnownValues {
    /// What to ask for: the lookup columns of these tables, and these hints (table, label and a query of one text
    /// column). Without values yet.
    pub(super) fn wanted(tables: &[&Table], hints: &[ValueHint]) -> Vec<(Self, Query<'static>)> {
        let lookups = tables.iter().flat_map(|table| {
            table.lookup_columns().map(|column| {
                let (schema, name) = table.name.split_once('.').unwrap_or_default();
                let query = format!("select {}::text from {}.{}", quoted(&column.name), quoted(schema), quoted(name));
                (table.name.clone(), column.name.clone(), query)
            })
        });
        let hints = hints.iter().filter(|hint| tables.iter().any(|table| table.name == hint.table));
        let hints = hints.map(|hint| (hint.table.clone(), hint.label.clone(), hint.query.clone()));
        let wanted = lookups.chain(hints).map(|(table, label, query)| {
            let query =
                format!("select left(v::text, 80) from ({query}) q (v) where v is not null order by v limit $1");
            (Self { table, label, values: Vec::new() }, Query::new(query, vec![(&LISTED_VALUES, Type::INT4)]))
        });
        wanted.collect()
    }

    /// Fills in the answer.
    pub(super) fn read(mut self, rows: &[Row]) -> Result<Self, DbError> {
        self.values = rows.iter().map(|row| field(row, 0)).collect::<Result<_, _>>()?;
        Ok(self)
    }
}

impl Table {
    fn bare_name(&self) -> &str {
        self.name.split_once('.').map_or(&self.name, |(_, bare)| bare)
    }

    /// Text columns whose few values a model needs to know: unique ones of a small table.
    fn lookup_columns(&self) -> impl Iterator<Item = &TableColumn> {
        let small = !self.is_view && (0.0..=LOOKUP_ROWS).contains(&self.row_estimate);
        self.columns.iter().filter(move |column| {
            small
                && column.is_text
                && self.keys.iter().any(|key| match key {
                    Key::Primary(columns) | Key::Unique(columns) => columns.contains(&column.name),
                    _ => false,
                })
        })
    }
}

impl TableColumn {
    fn read(row: &Row) -> Result<Self, DbError> {
        Ok(Self {
            name: field(row, 1)?,
            type_name: field(row, 2)?,
            not_null: field(row, 3)?,
            comment: field(row, 4)?,
            is_text: field(row, 5)?,
            labels: field::<Option<_>>(row, 6)?.unwrap_or_default(),
        })
    }
}

impl Key {
    fn read(row: &Row) -> Result<Self, DbError> {
        let columns = field::<Option<_>>(row, 2)?.unwrap_or_default();
        Ok(match field::<String>(row, 1)?.as_str() {
            "p" => Self::Primary(columns),
            "u" => Self::Unique(columns),
            "f" => Self::References { columns, table: field(row, 3)?, target: field(row, 4)? },
            _ => Self::Check(field(row, 5)?),
        })
    }
}

fn field<'a, T: FromSql<'a>>(row: &'a Row, n: usize) -> Result<T, DbError> {
    row.get(n).map_err(DbError::unreadable)
}

/// The rows whose first column is this table.
fn of_table(rows: &[Row], oid: u32) -> impl Iterator<Item = &Row> {
    rows.iter().filter(move |row| row.get::<u32>(0).is_ok_and(|of| of == oid))
}

fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}
