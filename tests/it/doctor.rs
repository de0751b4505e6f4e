//! `rowgate doctor` on set-ups that work and on set-ups that do not: each fault is found by name, with what mends it, and
//! nothing secret is printed.

mod search;
mod telemetry;

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
    for name in [
        "settings",
        "callers",
        "claim keys",
        "database",
        "connections",
        "clocks",
        "pgvector",
        "row-level security",
        "policies",
        "claim",
    ] {
        assert_eq!(said.of(name).0, "ok", "{}", said.text);
    }
    let named =
        "ROWGATE_DATABASE_URL, ROWGATE_CLAIM_KEYS, ROWGATE_IDENTITY, ROWGATE_ENTRA_TENANT, ROWGATE_ENTRA_AUDIENCE";
    assert_eq!(said.of("settings").1, format!("5 set, 5 of them to another value than the default: {named}"));
    assert_eq!(said.of("dns"), ("skipped", "no host is named but by address or socket folder", ""));
    assert_eq!(said.of("telemetry"), ("skipped", "goes nowhere but to the log", ""));
    let policies = said.of("policies").1;
    assert!(policies.starts_with("all by rowgate.visible_stores(): retail.categories 1, "), "{policies}");
    assert!(policies.contains("retail.customers 1, ") && policies.contains("retail.orders 1, "), "{policies}");
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
        (
            &database,
            &[("ROWGATE_DATABASE_URL", "postgres://rowgate_app:secret-word@nowhere.invalid/zava")],
            &[],
            "dns",
            "nowhere.invalid: no address (",
            "is the host in ROWGATE_DATABASE_URL right? In a private network, link its private DNS zone to the network that this runs in",
        ),
        (
            &database,
            &[("ROWGATE_POLL_SIZE", "secret-word")],
            &[],
            "settings",
            "ROWGATE_POLL_SIZE: no such setting; did you mean ROWGATE_POOL_SIZE?",
            "the README's table of settings says what each may be",
        ),
        (
            &database,
            &[("ROWGATE_PROFILE", "/nowhere/profile.toml")],
            &[],
            "settings",
            "the profile /nowhere/profile.toml can not be opened",
            "look at the file that ROWGATE_PROFILE names",
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

#[tokio::test]
async fn hosts_are_looked_up_before_they_are_connected_to() {
    let database = TestDatabase::create().await;
    let url = database.url().replace("127.0.0.1", "localhost");
    let said = with(&database, &[("ROWGATE_DATABASE_URL", &url)], &[]).await;
    let (mark, seen, run) = said.of("dns");
    assert!(said.healthy && mark == "ok" && run.is_empty(), "{}", said.text);
    assert!(seen.starts_with("localhost: ") && seen.contains("127.0.0.1") && seen.ends_with(" ms"), "{seen}");

    // Where its host has no address, the database is not tried: the name is what has to be mended.
    let url = "postgres://rowgate_app:secret-word@nowhere.invalid/zava";
    let said = with(&database, &[("ROWGATE_DATABASE_URL", url)], &[]).await;
    assert_eq!(said.of("database"), ("skipped", "its host has no address", ""));
    assert!(!said.text.contains("secret-word"), "{}", said.text);

    // A proxy may know what this machine does not.
    let said = with(&database, &[("ROWGATE_KEY_VAULT", "https://nowhere.invalid")], &[]).await;
    let (mark, seen, run) = said.of("dns");
    assert!(said.healthy && mark == "warning" && seen.starts_with("nowhere.invalid: no address ("), "{}", said.text);
    assert!(run.starts_with("is the host in ROWGATE_KEY_VAULT right?") && run.contains("HTTPS_PROXY"), "{run}");
}

#[tokio::test]
async fn a_policy_that_asks_for_no_claim_is_warned_of() {
    let database = TestDatabase::create().await;
    let superuser = database.superuser().await;
    superuser
        .batch_execute(
            "create policy \"Open\" on retail.orders for select to rowgate_reader using (true);
             create policy of_others on retail.orders for select to rowgate_owner using (true)",
        )
        .await
        .unwrap();
    let said = with(&database, &[], &[]).await;
    let (mark, seen, run) = said.of("policies");
    assert!(said.healthy && mark == "warning", "{}", said.text);
    assert!(seen.starts_with("not by rowgate.visible_stores(): \"Open\" on retail.orders; "), "{seen}");
    assert!(seen.contains("retail.orders 2, "), "{seen}");
    let own =
        "alter policy \"Open\" on retail.orders using (store_id = any ((select rowgate.visible_stores())::integer[]))";
    assert_eq!(
        run,
        format!(
            "{own}; or, where every known caller may see all rows, using ((select rowgate.visible_stores()) is not null)"
        )
    );
    superuser.batch_execute(own).await.unwrap();
    assert_eq!(with(&database, &[], &[]).await.of("policies").0, "ok");

    // A claim that is asked for by way of another table is asked for; one that only writing asks for is not.
    superuser
        .batch_execute(
            "drop policy own_store on retail.order_items;
             create policy of_orders on retail.order_items for select to rowgate_reader
                using (exists (select from retail.orders o where o.order_id = order_items.order_id))",
        )
        .await
        .unwrap();
    assert_eq!(with(&database, &[], &[]).await.of("policies").0, "ok");
    superuser
        .batch_execute(
            "create policy written on retail.inventory to rowgate_reader
                using (store_id > 0) with check ((select rowgate.visible_stores()) is not null)",
        )
        .await
        .unwrap();
    let said = with(&database, &[], &[]).await;
    assert!(said.of("policies").1.contains(": written on retail.inventory; "), "{}", said.text);

    // A restrictive policy binds the others.
    superuser
        .batch_execute(
            "create policy bound on retail.inventory as restrictive for select to rowgate_reader
                using (store_id = any ((select rowgate.visible_stores())::integer[]))",
        )
        .await
        .unwrap();
    assert_eq!(with(&database, &[], &[]).await.of("policies").0, "ok");
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
