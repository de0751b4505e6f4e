//! DNS: whether the hosts that the settings name have addresses, which, and how long it took to learn them.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use axum::http::Uri;
use futures_util::future::join_all;
use tokio::net::lookup_host;
use tokio::time::timeout;
use tokio_postgres::config::Host;

use super::{Check, Mark};
use crate::config::{EmbedderChoice, Settings};

/// How long a name may take.
const PATIENCE: Duration = Duration::from_secs(5);

const DATABASE: &str = "ROWGATE_DATABASE_URL";

/// A host by its name, and the setting that it stands in.
struct Named {
    host: String,
    setting: &'static str,
}

/// One check of all names, and whether any host of the database can be connected to.
pub(super) async fn check(settings: &Settings) -> (Check, bool) {
    let name = "dns";
    let databases = settings.database.app.as_ref().map_or(&[][..], |config| config.get_hosts());
    let named = named(settings, databases);
    if named.is_empty() {
        return (Check::new(name, Mark::Skipped, "no host is named but by address or socket folder"), true);
    }
    let resolved = join_all(named.iter().map(|named| resolve(&named.host))).await;
    let (mut seen, mut run, mut mark, mut unknown) = (Vec::new(), Vec::new(), Mark::Ok, 0);
    for (Named { host, setting }, resolved) in named.iter().zip(resolved) {
        match resolved {
            Ok((addresses, took)) => {
                let addresses: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
                seen.push(format!("{host}: {} in {:.1} ms", addresses.join(", "), took.as_secs_f64() * 1e3));
            }
            Err(why) => {
                let of_database = *setting == DATABASE;
                unknown += usize::from(of_database);
                // What HTTP asks for may be resolved by a proxy; its own check says whether it is reached.
                mark = if of_database || mark == Mark::Failed { Mark::Failed } else { Mark::Warning };
                seen.push(format!("{host}: no address ({why})"));
                let proxy = if of_database { "" } else { "; behind HTTPS_PROXY the proxy looks it up" };
                run.push(format!(
                    "is the host in {setting} right? In a private network, link its private DNS zone to the network \
                     that this runs in{proxy}"
                ));
            }
        }
    }
    let check = Check::new(name, mark, seen.join("; "));
    let reachable = databases.is_empty() || unknown < databases.len();
    (if run.is_empty() { check } else { check.run(run.join("; ")) }, reachable)
}

fn named(settings: &Settings, databases: &[Host]) -> Vec<Named> {
    let databases = databases.iter().filter_map(|host| match host {
        Host::Tcp(host) => Some((host.clone(), DATABASE)),
        #[cfg(unix)]
        Host::Unix(_) => None,
    });
    let openai = settings.embedding.endpoint.as_deref();
    let openai = openai.filter(|_| settings.embedding.embedder == Some(EmbedderChoice::AzureOpenAi));
    let by_url = [(settings.azure.key_vault.as_deref(), "ROWGATE_KEY_VAULT"), (openai, "ROWGATE_OPENAI_ENDPOINT")];
    let by_url = by_url.into_iter().filter_map(|(url, setting)| {
        let url: Uri = url?.parse().ok()?;
        Some((url.host()?.trim_matches(['[', ']']).to_owned(), setting))
    });
    let all = databases.chain(by_url).filter(|(host, _)| host.parse::<IpAddr>().is_err());
    all.map(|(host, setting)| Named { host, setting }).collect()
}

/// The addresses of a host, each once, and how long that took; or why there is none.
async fn resolve(host: &str) -> Result<(Vec<IpAddr>, Duration), String> {
    let began = Instant::now();
    let found = timeout(PATIENCE, lookup_host((host, 0))).await;
    let found = found.map_err(|_| format!("no answer in {PATIENCE:?}"))?.map_err(|error| error.to_string())?;
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in found.map(|socket| socket.ip()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok((addresses, began.elapsed()))
}
