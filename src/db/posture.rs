//! Whether the database is set up so that its protection holds: looked at before any data is served, and again now and
//! then. Row-level security protects nothing from a superuser, an owner, or a table that it was forgotten on.

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::DbError;
use super::connection::Connection;
use super::error::Fault;

/// What protection rests on, as it is: one row for each thing that is not as it has to be, what and how to mend it.
/// $1, $2: the bodies of the two functions as they were migrated.
const PROBLEMS: &str = include_str!("posture.sql");

/// The tables that the reader may read.
const EXPOSED: &str = "select n.nspname || '.' || c.relname
   from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname not in ('pg_catalog', 'information_schema')
    and n.nspname not like 'pg\\_%' and pg_catalog.has_table_privilege('rowgate_reader', c.oid, 'select')
  order by 1";

/// The functions as the newest migrations have them.
const CALLER: &str = include_str!("../../migrations/core/0002_caller.sql");
const NEWEST: &str = include_str!("../../migrations/core/0005_plain_digits.sql");

/// Something that is not as it has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub what: String,
    /// SQL, or a command, that mends it.
    pub mend: String,
}

/// The tables that the reader may read, as `schema.table`; an error if data may not be served.
pub(super) async fn check(connection: &Connection) -> Result<Vec<String>, DbError> {
    let (admit, visible) = (body(CALLER, "rowgate.admit("), body(NEWEST, "rowgate.visible_stores("));
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
        [(&admit, Type::TEXT), (&visible, Type::TEXT)];
    let (problems, exposed) =
        tokio::join!(connection.query_typed(PROBLEMS, &parameters), connection.query_typed(EXPOSED, &[]));
    let read = |row: &Row| Ok::<_, Fault>(Problem { what: row.try_get(0)?, mend: row.try_get(1)? });
    let problems = problems.map_err(DbError::of_ours)?;
    let problems: Vec<_> = problems.iter().map(read).collect::<Result<_, _>>().map_err(DbError::unreadable)?;
    if !problems.is_empty() {
        return Err(DbError::Unsafe(problems));
    }
    let exposed = exposed.map_err(DbError::of_ours)?;
    exposed.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(DbError::unreadable)
}

/// The body of a function in a migration, as PostgreSQL keeps it.
fn body(migration: &'static str, function: &str) -> &'static str {
    let made = ["create or replace function", "create function"];
    let from = made.iter().find_map(|made| migration.rsplit_once(&format!("{made} {function}")));
    from.map_or("", |(_, from)| from).split("$$").nth(1).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bodies_are_those_of_the_migrations() {
        assert!(body(CALLER, "rowgate.admit(").trim().starts_with("begin\n    perform set_config"));
        assert!(body(NEWEST, "rowgate.visible_stores(").contains("the token was revoked"));
        assert_eq!(body(CALLER, "rowgate.no_such("), "");
    }
}
