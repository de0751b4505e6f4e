//! What Rowgate must know of the server before it can run a caller's statement: the names of volatile functions, the
//! types that PostgreSQL does not ship, and the time. The same for every caller; read once, again after a while.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime};

use tokio::join;
use tokio_postgres::types::{Kind, Type};

use super::connection::Connection;
use super::{DbError, posture};
use crate::identity::{Caller, Claim, SigningKeys};

/// How old facts may get before they are read again.
const FRESH: Duration = Duration::from_secs(300);

/// Facts about the server.
pub(super) struct ServerFacts {
    /// The tables that can be read, as `schema.table`.
    pub(super) exposed: Vec<String>,
    /// Names of functions that are volatile in any of their forms.
    pub(super) volatile: HashSet<String>,
    types: HashMap<u32, OtherType>,
    /// Whether pgvector can go on with an index scan until enough rows have passed the filters: 0.8.0 and later.
    scans_on: bool,
    /// The server's time when they were read.
    time: SystemTime,
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
    /// Reads them in one round trip, as the login role. An error if the database is not set up to be served from.
    pub(super) async fn read(client: &Connection) -> Result<Self, DbError> {
        let (time, exposed, functions, known_types, vector) = join!(
            client.query_typed("select clock_timestamp()", &[]),
            posture::check(client),
            client.query_typed(
                "select distinct proname::text from pg_catalog.pg_proc where provolatile = 'v' and prokind <> 'p'",
                &[]
            ),
            client.query_typed(
                "select oid, typname::text, typbasetype, case when typcategory = 'A' then typelem else 0 end
                   from pg_catalog.pg_type where oid >= 16384 and typtype in ('b', 'c', 'd', 'e', 'r', 'm')",
                &[]
            ),
            client.query_typed(
                "select string_to_array(extversion, '.')::int[] >= array[0, 8, 0]
                   from pg_catalog.pg_extension where extname = 'vector'",
                &[]
            ),
        );
        let scans_on = match vector.map_err(DbError::of_ours)?.first() {
            Some(row) => row.try_get(0).map_err(DbError::unreadable)?,
            None => false,
        };
        let some = |oid: u32| (oid != 0).then_some(oid);
        let exposed = exposed?;
        let time = time.map_err(DbError::of_ours)?;
        let time = time.first().ok_or(DbError::Shape("no time"))?.try_get(0).map_err(DbError::unreadable)?;
        let (volatile, types, read) = (HashSet::new(), HashMap::new(), Instant::now());
        let mut facts = Self { exposed, volatile, types, scans_on, time, read };
        for row in functions.map_err(DbError::of_ours)? {
            facts.volatile.insert(row.try_get(0).map_err(DbError::unreadable)?);
        }
        for row in known_types.map_err(DbError::of_ours)? {
            let get = |n: usize| row.try_get::<_, u32>(n).map_err(DbError::unreadable);
            let name = row.try_get(1).map_err(DbError::unreadable)?;
            facts.types.insert(get(0)?, OtherType { name, base: some(get(2)?), element: some(get(3)?) });
        }
        Ok(facts)
    }

    /// Whether they should be read again.
    pub(super) fn stale(&self) -> bool {
        self.read.elapsed() > FRESH
    }

    /// A claim for this caller, from now on by the server's clock: it is the server that compares, and this machine's
    /// clock may be wrong, or jump.
    pub(super) fn sign(&self, keys: &SigningKeys, caller: &Caller) -> Claim {
        Claim::sign(keys.newest(), caller, self.time + self.read.elapsed())
    }

    /// The type of pgvector's dense vectors, if it is installed.
    pub(super) fn vector_type(&self) -> Option<Type> {
        let (oid, vector) = self.types.iter().find(|(_, other)| other.name == "vector" && other.element.is_none())?;
        Some(Type::new(vector.name.clone(), *oid, Kind::Simple, String::new()))
    }

    /// Whether a filtered index scan loses no rows.
    pub(super) fn scans_on(&self) -> bool {
        self.scans_on
    }

    /// A type that PostgreSQL does not ship.
    pub(super) fn other_type(&self, oid: u32) -> Option<&OtherType> {
        self.types.get(&oid)
    }
}
