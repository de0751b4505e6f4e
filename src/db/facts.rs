//! What Rowgate must know of the server before it can run a caller's statement: the names of volatile functions and
//! the types that PostgreSQL does not ship. The same for every caller; read once, again after a while.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use tokio::join;

use super::DbError;

/// How old facts may get before they are read again.
const FRESH: Duration = Duration::from_secs(300);

/// Facts about the server.
pub(super) struct ServerFacts {
    /// Names of functions that are volatile in any of their forms.
    pub(super) volatile: HashSet<String>,
    types: HashMap<u32, OtherType>,
    read: Instant,
}

/// A type made by an extension or a migration.
pub(super) struct OtherType {
    /// Its name, without its schema.
    pub(super) name: String,
    /// For a domain, the type below it.
    pub(super) base: Option<u32>,
    /// For an array, the type of its elements.
    pub(super) element: Option<u32>,
}

impl ServerFacts {
    /// Reads them in one round trip, as the login role.
    pub(super) async fn read(client: &tokio_postgres::Client) -> Result<Self, DbError> {
        let (functions, types) = join!(
            client.query_typed(
                "select distinct proname::text from pg_catalog.pg_proc where provolatile = 'v' and prokind <> 'p'",
                &[]
            ),
            client.query_typed(
                "select oid, typname::text, typbasetype, case when typcategory = 'A' then typelem else 0 end
                   from pg_catalog.pg_type where oid >= 16384 and typtype in ('b', 'c', 'd', 'e', 'r', 'm')",
                &[]
            ),
        );
        let some = |oid: u32| (oid != 0).then_some(oid);
        let mut facts = Self { volatile: HashSet::new(), types: HashMap::new(), read: Instant::now() };
        for row in functions.map_err(DbError::of_ours)? {
            facts.volatile.insert(row.try_get(0).map_err(DbError::Internal)?);
        }
        for row in types.map_err(DbError::of_ours)? {
            let get = |n: usize| row.try_get::<_, u32>(n).map_err(DbError::Internal);
            let name = row.try_get(1).map_err(DbError::Internal)?;
            facts.types.insert(get(0)?, OtherType { name, base: some(get(2)?), element: some(get(3)?) });
        }
        Ok(facts)
    }

    /// Whether they should be read again.
    pub(super) fn stale(&self) -> bool {
        self.read.elapsed() > FRESH
    }

    /// A type that PostgreSQL does not ship.
    pub(super) fn other_type(&self, oid: u32) -> Option<&OtherType> {
        self.types.get(&oid)
    }
}
