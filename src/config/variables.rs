//! Every variable of the environment that means something here: the README's table is compared with this one.

/// Every variable, what it means unless set, and what it is for.
pub const VARIABLES: &[(&str, &str, &str)] = &[
    (
        "ROWGATE_DATABASE_URL",
        "none",
        "`serve`: the database, as the role `rowgate_app`: `postgres://rowgate_app:…@host/db`",
    ),
    (
        "ROWGATE_ADMIN_DATABASE_URL",
        "none",
        "`migrate`, `seed`, and `dev` on a server of your own: the database, as an administrator",
    ),
    ("ROWGATE_APP_PASSWORD", "none", "`migrate`: the password to give `rowgate_app`; unset leaves it as it is"),
    (
        "ROWGATE_CLAIM_KEYS",
        "none",
        "keys that sign claims, `<id>:<base64>`, separated by commas; the first signs, `migrate` makes the database accept all of them and no other",
    ),
    (
        "ROWGATE_IDENTITY",
        "none",
        "how a caller is proved; `trusted-header` believes `x-rls-user-id` and is for development",
    ),
    ("ROWGATE_PORT", "8000", "port to listen on; `FUNCTIONS_CUSTOMHANDLER_PORT` comes first"),
    ("ROWGATE_BIND", "127.0.0.1", "address to listen on"),
    (
        "ROWGATE_ALLOWED_HOSTS",
        "loopback",
        "further `Host` values to answer, separated by commas; `WEBSITE_HOSTNAME` is one",
    ),
    (
        "ROWGATE_ALLOWED_ORIGINS",
        "none",
        "browser origins to answer, such as `https://app.example.com:443`, separated by commas",
    ),
    ("ROWGATE_BODY_BYTES", "1048576", "largest request body"),
    ("ROWGATE_POOL_SIZE", "4", "connections to the database at most"),
    ("ROWGATE_POOL_WAIT_SECONDS", "5", "how long a call waits for one of them"),
    ("ROWGATE_CONNECT_SECONDS", "10", "how long making one may take"),
    ("ROWGATE_STATEMENT_SECONDS", "30", "how long a caller's statement may run"),
    ("ROWGATE_CALL_SECONDS", "60", "how long a call may take in all, below 230"),
    ("ROWGATE_DEFAULT_ROWS", "100", "rows in an answer unless the caller asks for up to 1000"),
    ("ROWGATE_RESULT_BYTES", "262144", "bytes of rows in an answer at most"),
    (
        "ROWGATE_EMBEDDER",
        "none",
        "what turns words into vectors for search: `azure-openai`, or `local`, which `dev` uses unless this says otherwise",
    ),
    ("ROWGATE_EMBEDDING_MODEL", "text-embedding-3-small", "`azure-openai`: the model, as the profile knows it"),
    ("ROWGATE_OPENAI_ENDPOINT", "none", "`azure-openai`: `https://<resource>.openai.azure.com`"),
    ("ROWGATE_OPENAI_DEPLOYMENT", "the model's name", "`azure-openai`: the deployment"),
    (
        "ROWGATE_OPENAI_KEY",
        "none",
        "`azure-openai`: the resource's key, for development; without it the managed identity asks",
    ),
    ("ROWGATE_MANAGED_IDENTITY_CLIENT_ID", "the system-assigned", "which managed identity this program runs as"),
    ("ROWGATE_EMBEDDING_MODEL_FILE", "none", "`local`: the model's ONNX file; `dev` fetches it"),
    ("ROWGATE_PROFILE", "the sample's", "a profile file: names, descriptions and hints for another data set"),
    (
        "ROWGATE_CACHE_DIR",
        "the user's cache folder",
        "`dev`: where PostgreSQL and the data are kept; `/var/cache/rowgate` for root",
    ),
    ("ROWGATE_LOG", "info", "what to log: `error`, `warn`, `info`, `debug`, or a filter such as `rowgate=debug`"),
    ("ROWGATE_LOG_FORMAT", "json", "`json` or `text`; `dev` defaults to `text`"),
    ("ROWGATE_LOG_SQL", "false", "log the text of callers' statements instead of its hash"),
];
