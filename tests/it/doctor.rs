//! `rowgate doctor` on set-ups that work and on set-ups that do not: each fault is found by name, with what mends it, and
//! nothing secret is printed.

use std::process::Command;

use rowgate::identity::SigningKey;
use serde_json::Value;

use crate::support::azure::{LoopbackAzure, VAULT_HOST, VaultFault};
use crate::support::{NOBODY, SEATTLE, TestDatabase, cluster};

/// What the doctor says: whether all is well, and each check by its name.
struct Said {
    healthy: bool,
    checks: Vec<Value>,
    text: String,
}

impl Said {
    fn of(&self, name: &str) -> (&str, &str, &str) {
        let check = self.checks.iter().find(|check| check["name"] == name);
        let check = check.unwrap_or_else(|| panic!("no {name}: {}", self.text));
        let text = |key: &str| check[key].as_str().unwrap_or_default();
        (text("mark"), text("seen"), text("run"))
    }
}

async fn doctor(environment: &[(&str, &str)], arguments: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rowgate"));
    command.env_clear().env("PATH", std::env::var("PATH").unwrap());
    command.args(["doctor", "--json"]).args(arguments).envs(environment.iter().copied());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let told = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    let diagnosis: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{told}"));
    let checks = diagnosis["checks"].as_array().unwrap().clone();
    Said { healthy: output.status.success(), checks, text: told }
}

fn settings(database: &TestDatabase) -> Vec<(&'static str, String)> {
    vec![
        ("ROWGATE_DATABASE_URL", database.url()),
        ("ROWGATE_CLAIM_KEYS", cluster().key_text.clone()),
        ("ROWGATE_IDENTITY", "entra".to_owned()),
        ("ROWGATE_ENTRA_TENANT", "3d7a9c51-0b2e-4c8f-9a6d-1e5f7b3c9d20".to_owned()),
        ("ROWGATE_ENTRA_AUDIENCE", "api://rowgate".to_owned()),
    ]
}

/// The settings with some changed; an empty value takes one away.
async fn with(database: &TestDatabase, changed: &[(&'static str, &str)], arguments: &[&str]) -> Said {
    let mut all = settings(database);
    all.retain(|(name, _)| changed.iter().all(|(other, _)| other != name));
    all.extend(changed.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (*name, (*value).to_owned())));
    let all: Vec<_> = all.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let said = doctor(&all, arguments).await;
    for secret in [&cluster().app_password, &cluster().key_text] {
        assert!(!said.text.contains(secret.as_str()), "{}", said.text);
    }
    said
}

#[tokio::test]
async fn a_set_up_that_works_is_said_to_work() {
    let database = TestDatabase::create().await;
    let said = with(&database, &[], &["--as", SEATTLE]).await;
    assert!(said.healthy, "{}", said.text);
    for name in
        ["callers", "claim keys", "database", "connections", "clocks", "pgvector", "row-level security", "claim"]
    {
        assert_eq!(said.of(name).0, "ok", "{}", said.text);
    }
    let (mark, seen, _) = said.of("visible rows");
    assert!(mark == "ok" && seen.contains("retail.stores 8") && seen.contains("retail.orders "), "{seen}");
    assert_eq!(said.of("embeddings").0, "skipped");

    // For people: one line a check, and no row of anybody's.
    let mut command = Command::new(env!("CARGO_BIN_EXE_rowgate"));
    command.env_clear().arg("doctor").envs(settings(&database));
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && text.lines().any(|line| line.starts_with("ok       row-level security")),
        "{text}"
    );
    assert!(text.contains("→ rowgate doctor --as <principal>"), "{text}");
}

#[tokio::test]
async fn each_planted_fault_is_found_with_what_mends_it() {
    let database = TestDatabase::create().await;
    let empty = TestDatabase::empty().await;
    let holed = TestDatabase::create().await;
    holed.superuser().await.batch_execute("alter table retail.orders no force row level security").await.unwrap();
    let stray = SigningKey::generate("stray").unwrap();
    let closed = "postgres://rowgate_app:secret-word@127.0.0.1:9/zava";
    let port = cluster().cluster.port();
    let wrong = format!("postgres://rowgate_app:secret-word@127.0.0.1:{port}/{}", database.name);
    let missing = format!("postgres://rowgate_app:{}@127.0.0.1:{port}/no_such", cluster().app_password);

    for (database, changed, arguments, check, seen, run) in [
        (
            &database,
            &[("ROWGATE_DATABASE_URL", closed)][..],
            &[][..],
            "database",
            "no socket to the database",
            "does the server run",
        ),
        (
            &database,
            &[("ROWGATE_DATABASE_URL", wrong.as_str())],
            &[],
            "database",
            "password authentication failed",
            "ROWGATE_APP_PASSWORD",
        ),
        (
            &database,
            &[("ROWGATE_DATABASE_URL", missing.as_str())],
            &[],
            "database",
            "does not exist",
            "make the database",
        ),
        (
            &database,
            &[("ROWGATE_DATABASE_URL", "")],
            &[],
            "database",
            "ROWGATE_DATABASE_URL is not set",
            "set what is missing",
        ),
        (&database, &[("ROWGATE_DATABASE_TLS", "on")], &[], "database", "TLS", "does the server speak TLS"),
        (
            &database,
            &[("ROWGATE_CLAIM_KEYS", "")],
            &[],
            "claim keys",
            "ROWGATE_CLAIM_KEYS is not set",
            "set ROWGATE_CLAIM_KEYS",
        ),
        (
            &database,
            &[("ROWGATE_CLAIM_KEYS", stray.as_str())],
            &["--as", SEATTLE],
            "claim",
            "does not know the key",
            "rowgate migrate, with the very",
        ),
        (&database, &[], &["--as", NOBODY], "claim", "does not know the caller", "rowgate principal add"),
        (
            &database,
            &[("ROWGATE_IDENTITY", "easy-auth")],
            &[],
            "callers",
            "nobody is let in",
            "turn on App Service authentication",
        ),
        (
            &database,
            &[("ROWGATE_IDENTITY", "")],
            &[],
            "callers",
            "ROWGATE_IDENTITY is not set",
            "ROWGATE_IDENTITY=easy-auth",
        ),
        (&database, &[("ROWGATE_ENTRA_TENANT", "")], &[], "callers", "without a tenant", "ROWGATE_ENTRA_TENANT"),
        (
            &database,
            &[
                ("ROWGATE_DATABASE_LOGIN", "entra"),
                ("IDENTITY_ENDPOINT", "http://127.0.0.1:9/"),
                ("IDENTITY_HEADER", "x"),
            ],
            &[],
            "managed identity",
            "gives no token",
            "assign the identity",
        ),
        (
            &database,
            &[
                ("ROWGATE_EMBEDDER", "azure-openai"),
                ("ROWGATE_OPENAI_ENDPOINT", "http://127.0.0.1:9"),
                ("ROWGATE_OPENAI_KEY", "k"),
            ],
            &["--as", SEATTLE],
            "embeddings",
            "can not be reached",
            "look at the endpoint",
        ),
        (
            &database,
            &[
                ("ROWGATE_EMBEDDER", "azure-openai"),
                ("ROWGATE_OPENAI_ENDPOINT", "http://127.0.0.1:9"),
                ("ROWGATE_OPENAI_KEY", "k"),
            ],
            &["--as", SEATTLE],
            "vectors",
            "none of text-embedding-3-small",
            "rowgate embed",
        ),
        (&empty, &[], &[], "row-level security", "", "rowgate migrate"),
        (
            &holed,
            &[],
            &[],
            "row-level security",
            "retail.orders has no row-level security that binds its owner too",
            "force row level security",
        ),
    ] {
        let said = with(database, changed, arguments).await;
        let (mark, was_seen, was_told) = said.of(check);
        assert!(!said.healthy && mark == "failed", "{check}: {}", said.text);
        assert!(was_seen.contains(seen), "{check}: {was_seen}");
        assert!(was_told.contains(run), "{check}: {was_told}");
        assert!(!said.text.contains("secret-word"), "{}", said.text);
    }
    // A warning is no failure.
    let said = with(&database, &[("ROWGATE_IDENTITY", "trusted-header")], &[]).await;
    assert!(said.healthy && said.of("callers").0 == "warning", "{}", said.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_vault_is_looked_into() {
    let azure = LoopbackAzure::start().await;
    let database = TestDatabase::create().await;
    let vault = format!("https://{VAULT_HOST}");
    let around = azure.environment();
    let mut environment: Vec<(&str, &str)> =
        around.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let own = settings(&database);
    environment.extend(own.iter().filter(|(name, _)| *name != "ROWGATE_CLAIM_KEYS").map(|(n, v)| (*n, v.as_str())));
    environment.extend([
        ("ROWGATE_KEY_VAULT", vault.as_str()),
        ("ROWGATE_MANAGED_IDENTITY_CLIENT_ID", crate::support::azure::CLIENT_ID),
    ]);
    let missing = doctor(&environment, &[]).await;
    assert!(missing.of("claim keys").1.contains("has no secret rowgate-claim-keys"), "{}", missing.text);
    azure.key_vault.set("rowgate-claim-keys", "k1:nonsense");
    let nonsense = doctor(&environment, &[]).await;
    assert!(nonsense.of("claim keys").2.contains("base64 of 32 bytes"), "{}", nonsense.text);
    assert!(!nonsense.text.contains("nonsense"), "{}", nonsense.text);
    azure.key_vault.set("rowgate-claim-keys", &cluster().key_text);
    azure.key_vault.faults.always(VaultFault::Forbidden);
    let forbidden = doctor(&environment, &[]).await;
    assert!(forbidden.of("claim keys").2.contains("Key Vault Secrets User"), "{}", forbidden.text);
    azure.key_vault.faults.end();
    let well = doctor(&environment, &["--as", SEATTLE]).await;
    assert!(well.healthy && well.of("claim keys").1.contains("1 of them"), "{}", well.text);
    assert!(!well.text.contains(&cluster().key_text));
}
