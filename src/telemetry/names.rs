//! The names of everything that is measured, one place for the program, for docs/operate.md and for the alerts and the
//! workbook in infra/, which a test compares with it. Where OpenTelemetry's semantic conventions have a name, it is theirs.

/// An instrument: its name, its unit (UCUM), and what it counts.
pub type Named = (&'static str, &'static str, &'static str);

/// HTTP requests (semantic conventions, HTTP).
pub const HTTP_DURATION: Named = ("http.server.request.duration", "s", "how long requests took");
/// MCP requests (semantic conventions, MCP).
pub const MCP_DURATION: Named =
    ("mcp.server.operation.duration", "s", "how long MCP requests took, by method and tool");
/// Calls.
pub const CALLS: Named = ("rowgate.calls", "{call}", "calls of tools, by tool and outcome");
/// Rows.
pub const CALL_ROWS: Named = ("rowgate.call.rows", "{row}", "rows that a call answered, by tool");
/// Bytes.
pub const CALL_BYTES: Named = ("rowgate.call.bytes", "By", "bytes of text that a call answered, by tool");
/// Refusals.
pub const REFUSALS: Named = ("rowgate.refusals", "{refusal}", "requests and calls that were refused, by reason");
/// Look-ups.
pub const LOOKUPS: Named =
    ("rowgate.cache.lookups", "{lookup}", "look-ups in what is kept, by cache and whether it was there");
/// Cold start.
pub const START: Named = ("rowgate.start.duration", "s", "what a process spent its start on, once each, by phase");
/// Secrets and tokens.
pub const SECRET_DURATION: Named =
    ("rowgate.secret.duration", "s", "how long secrets and tokens took to fetch, by kind");
/// Database (semantic conventions, database).
pub const DB_DURATION: Named = ("db.client.operation.duration", "s", "how long the database took, by operation");
/// Pool.
pub const POOL_WAIT: Named = ("db.client.connection.wait_time", "s", "how long calls waited for a connection");
/// Pool.
pub const POOL_CREATE: Named = ("db.client.connection.create_time", "s", "how long making a connection took");
/// Pool.
pub const POOL_TIMEOUTS: Named = ("db.client.connection.timeouts", "{timeout}", "calls that got no connection in time");
/// Pool.
pub const POOL_COUNT: Named = ("db.client.connection.count", "{connection}", "connections, used and idle");
/// Pool.
pub const POOL_MAX: Named = ("db.client.connection.max", "{connection}", "connections at most");
/// Pool.
pub const POOL_PENDING: Named =
    ("db.client.connection.pending_requests", "{request}", "calls that wait for a connection");
/// Embeddings (semantic conventions, generative AI).
pub const EMBEDDING_DURATION: Named = ("gen_ai.client.operation.duration", "s", "how long embedding took");
/// Embeddings.
pub const EMBEDDING_TOKENS: Named = ("gen_ai.client.token.usage", "{token}", "tokens that were embedded");

/// All of them, in the order of docs/operate.md.
pub const ALL: [Named; 18] = [
    HTTP_DURATION,
    MCP_DURATION,
    CALLS,
    CALL_ROWS,
    CALL_BYTES,
    REFUSALS,
    DB_DURATION,
    POOL_WAIT,
    POOL_CREATE,
    POOL_TIMEOUTS,
    POOL_COUNT,
    POOL_MAX,
    POOL_PENDING,
    EMBEDDING_DURATION,
    EMBEDDING_TOKENS,
    SECRET_DURATION,
    LOOKUPS,
    START,
];
