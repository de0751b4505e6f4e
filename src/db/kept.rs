//! What a connection keeps from one call to the next: the prepared question that admits a caller, and the statements
//! that its last caller has asked, so that who asks the same again does not have it parsed and planned again. The
//! session shows the text of prepared statements to all SQL that runs in it (`pg_prepared_statements`), so those of
//! another caller are let go of before a statement runs. Behind a pooler the session is not ours alone: nothing is kept.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::statement::Statement;

/// So many statements a connection keeps at most.
const MOST: usize = 8;

/// The longest statement that is kept, in bytes.
const LONGEST: usize = 8 * 1024;

/// How long one is kept: what a name means is looked up when a statement is prepared, and a new table could change it.
const FRESH: Duration = Duration::from_secs(300);

/// The prepared statement that is let go of with its transaction.
const ONCE: &str = "rowgate_statement";

/// What one connection keeps.
pub(super) struct Kept {
    /// This end of the socket, if it has a port.
    port: Option<u16>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    direct: bool,
    admission: Option<tokio_postgres::Statement>,
    caller: String,
    /// The one that was used last stands last.
    statements: Vec<Prepared>,
    let_go: Vec<String>,
    named: u64,
}

/// A statement that the session has prepared.
struct Prepared {
    name: String,
    sql: String,
    types: Arc<[u32]>,
    since: Instant,
}

/// How a statement is to be run.
pub(super) struct Use {
    /// The prepared statement's name.
    pub(super) name: String,
    /// The OIDs of its columns' types, if it is prepared already.
    pub(super) types: Option<Arc<[u32]>>,
    /// Whether it stays prepared.
    pub(super) stays: bool,
    /// What has to be run before, outside of a transaction: lets go of statements.
    pub(super) before: Option<String>,
}

impl Kept {
    /// Nothing yet. `port`: of this end of the socket.
    pub(super) fn new(port: Option<u16>) -> Self {
        Self { port, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells from which port the server is talked to, as the server sees it: if that is this end of the socket, nobody
    /// stands in between who would give the session to others.
    pub(super) fn seen_from(&self, port: Option<i32>) {
        let direct = self.port.is_some() && self.port.map(i32::from) == port;
        self.state().direct = direct;
    }

    /// The prepared question that admits a caller.
    pub(super) fn admission(&self) -> Option<tokio_postgres::Statement> {
        self.state().admission.clone()
    }

    /// Whether the question that admits a caller should be prepared.
    pub(super) fn wants_admission(&self) -> bool {
        let state = self.state();
        state.direct && state.admission.is_none()
    }

    /// Keeps the prepared question that admits a caller.
    pub(super) fn keep_admission(&self, prepared: tokio_postgres::Statement) {
        self.state().admission = Some(prepared);
    }

    /// How to run a statement that was wrapped as `sql`, for a caller who is these principals.
    pub(super) fn plan(&self, principals: &str, statement: &Statement, sql: &str) -> Use {
        let mut state = self.state();
        if state.caller != principals {
            state.caller = principals.to_owned();
            state.drop_where(|_| true);
        }
        state.drop_where(|prepared| prepared.since.elapsed() > FRESH);
        if let Some(at) = state.statements.iter().position(|prepared| prepared.sql == sql) {
            let found = state.statements.remove(at);
            let (name, types) = (found.name.clone(), Some(Arc::clone(&found.types)));
            state.statements.push(found);
            return Use { name, types, stays: true, before: state.lead() };
        }
        let stays = state.direct && sql.len() <= LONGEST && statement.means_the_same_later();
        let name = if stays {
            state.named += 1;
            format!("{ONCE}_{}", state.named)
        } else {
            ONCE.to_owned()
        };
        if stays && state.statements.len() >= MOST {
            let oldest = state.statements.remove(0);
            state.let_go.push(oldest.name);
        }
        Use { name, types: None, stays, before: state.lead() }
    }

    /// Says that a statement that stays was prepared. `types`: `None` if they did not become known.
    pub(super) fn prepared(&self, name: String, sql: String, types: Option<Arc<[u32]>>) {
        let mut state = self.state();
        match types {
            Some(types) => state.statements.push(Prepared { name, sql, types, since: Instant::now() }),
            None => state.let_go.push(name),
        }
    }

    /// Lets go of a statement.
    pub(super) fn forget(&self, name: &str) {
        self.state().drop_where(|prepared| prepared.name == name);
    }
}

impl State {
    fn drop_where(&mut self, which: impl Fn(&Prepared) -> bool) {
        let dropped = self.statements.extract_if(.., |prepared| which(prepared)).map(|prepared| prepared.name);
        self.let_go.extend(dropped);
    }

    fn lead(&mut self) -> Option<String> {
        let names: Vec<_> = self.let_go.drain(..).map(|name| format!("deallocate {name}")).collect();
        (!names.is_empty()).then(|| names.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direct() -> Kept {
        let kept = Kept::new(Some(4000));
        kept.seen_from(Some(4000));
        kept
    }

    fn run(kept: &Kept, who: &str, sql: &str) -> Use {
        let usage = kept.plan(who, &Statement::unchecked(sql), sql);
        if usage.stays && usage.types.is_none() {
            kept.prepared(usage.name.clone(), sql.to_owned(), Some(Arc::from([23])));
        }
        usage
    }

    #[test]
    fn who_asks_the_same_again_finds_it_prepared_and_nobody_else_does() {
        let kept = direct();
        let first = run(&kept, "a", "select 1");
        let again = run(&kept, "a", "select 1");
        assert_eq!((first.types.is_none(), again.types.is_some()), (true, true));
        assert_eq!((again.name.as_str(), again.before), (first.name.as_str(), None));
        let other = run(&kept, "a,group:b", "select 1");
        assert!(other.types.is_none() && other.name != first.name);
        assert_eq!(other.before, Some(format!("deallocate {}", first.name)));
    }

    #[test]
    fn the_statement_that_was_not_used_for_longest_makes_room() {
        let kept = direct();
        let names: Vec<_> = (0..MOST).map(|n| run(&kept, "a", &format!("select {n}")).name).collect();
        run(&kept, "a", "select 0");
        assert_eq!(run(&kept, "a", "select 'more'").before, Some(format!("deallocate {}", names[1])));
        assert!(run(&kept, "a", "select 0").types.is_some());
        kept.forget(&names[0]);
        let anew = run(&kept, "a", "select 0");
        assert_eq!((anew.types.is_none(), anew.before), (true, Some(format!("deallocate {}", names[0]))));
    }

    #[test]
    fn nothing_is_kept_in_a_session_that_others_may_get_or_of_a_text_that_changes_its_meaning() {
        for (ours, seen) in [(Some(4000), Some(4001)), (Some(4000), None), (None, None)] {
            let kept = Kept::new(ours);
            kept.seen_from(seen);
            assert!(!run(&kept, "a", "select 1").stays && !kept.wants_admission());
        }
        let kept = direct();
        for sql in ["select date 'today'", "select e'n\\x6fw'::date", "select ' NOW '::timestamptz"] {
            assert_eq!((run(&kept, "a", sql).stays, run(&kept, "a", sql).name.as_str()), (false, ONCE), "{sql}");
        }
        assert!(!run(&kept, "a", &format!("select '{}'", "x".repeat(LONGEST))).stays);
        assert!(run(&kept, "a", "select now() > '2026-01-31' as snow").stays);
    }
}
