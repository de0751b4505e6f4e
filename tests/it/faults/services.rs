//! Faults of what Rowgate asks besides its database, and of Rowgate itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::cluster::{embed, embedding};
use super::handler::Handler;
use super::load::{Load, Truth};
use super::{Allowed, Span, Trial};
use crate::support::azure::{CLIENT_ID, LoopbackAzure, OpenAiFault, VAULT_HOST, VaultFault};
use crate::support::{TestDatabase, cluster};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_that_fail_and_a_handler_that_dies_harm_nobody() {
    let span = Span::of_this_run();
    let azure = LoopbackAzure::start().await;
    azure.key_vault.set("rowgate-claim-keys", &cluster().key_text);
    let database = TestDatabase::create().await;
    let mut superuser = database.superuser().await;
    embed(&mut superuser, &azure).await;
    let truth = Arc::new(Truth::read(&superuser).await);
    let mut environment = embedding(&azure);
    environment.extend(azure.environment());
    environment.extend([
        ("ROWGATE_DATABASE_URL".to_owned(), database.url()),
        ("ROWGATE_KEY_VAULT".to_owned(), format!("https://{VAULT_HOST}")),
        ("ROWGATE_MANAGED_IDENTITY_CLIENT_ID".to_owned(), CLIENT_ID.to_owned()),
    ]);
    let mut handler = Handler::start(environment).await;
    let load = Load::start(&handler.url(), truth, span.clients, usize::MAX);
    let mut trial = Trial::new(load, span);

    trial.fault("none", Allowed::Nothing, sleep(span.fault)).await;
    let killed = async {
        handler.kill();
        handler.start_again().await;
    };
    trial.fault("handler killed (SIGKILL) and started", Allowed::NoHandler, killed).await;
    let warm = async {
        azure.key_vault.faults.always(VaultFault::Failing);
        sleep(span.fault).await;
        azure.key_vault.faults.end();
    };
    trial.fault("Key Vault fails, secrets known", Allowed::Nothing, warm).await;

    // A handler that knows nothing yet is the one that a vault can harm.
    let mut vault = vec![("fails", VaultFault::Failing), ("throttles", VaultFault::Throttled(1))];
    if span.long {
        vault.push(("hangs", VaultFault::Hangs));
    }
    for (does, fault) in vault {
        let cold = async {
            azure.key_vault.faults.always(fault);
            handler.kill();
            handler.start_again().await;
            sleep(span.fault).await;
            azure.key_vault.faults.end();
        };
        trial.fault(&format!("Key Vault {does}, handler started anew"), Allowed::NoHandler, cold).await;
    }

    let openai =
        [("fails", OpenAiFault::Failing), ("throttles", OpenAiFault::Throttled(1)), ("hangs", OpenAiFault::Hangs)];
    for (does, fault) in openai {
        let embedding = async {
            azure.openai.faults.always(fault);
            sleep(if span.long { Duration::from_secs(10) } else { span.fault }).await;
            azure.openai.faults.end();
        };
        trial.fault(&format!("embedding service {does}"), Allowed::Words, embedding).await;
    }
    if std::env::var_os("ROWGATE_TEST_FAULTS_LOG").is_some() {
        println!("{}", handler.complaints());
    }
    trial.finish("Faults of services and of the handler").await;
}
