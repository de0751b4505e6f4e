//! Azure on loopback: Key Vault, Entra, Azure OpenAI, Application Insights and the managed identity behind the names that they really have.
//! A client reaches them through the proxy, and trusts them by the private authority: verification stays on.

mod certificates;
mod entra;
mod identity;
mod insights;
mod key_vault;
mod openai;
mod script;
mod sdk;
mod tunnel;

pub use certificates::{CertificateFiles, Certificates, Flaw};
pub use entra::{APP_ID, Entra, EntraFault, KEYS, LOGIN_HOST};
pub use identity::{CLIENT_ID, COGNITIVE_SERVICES, Identity, IdentityFault, KEY_VAULT, TokenProblem};
pub use insights::{INSIGHTS_HOST, Insights, InsightsFault};
pub use key_vault::{KeyVault, VAULT_HOST, VaultFault};
pub use openai::{EMBEDDINGS, OPENAI_HOST, OpenAi, OpenAiFault};

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use tunnel::Tunnels;

/// The tenant of all of it.
pub const TENANT: &str = "3d7a9c51-0b2e-4c8f-9a6d-1e5f7b3c9d20";

/// All of it. Ends when it is dropped.
pub struct LoopbackAzure {
    pub certificates: Arc<Certificates>,
    pub entra: Arc<Entra>,
    pub identity: Arc<Identity>,
    pub key_vault: Arc<KeyVault>,
    pub openai: Arc<OpenAi>,
    pub insights: Arc<Insights>,
    tunnels: Tunnels,
    plain: SocketAddr,
    serving: JoinHandle<()>,
}

impl LoopbackAzure {
    pub async fn start() -> Self {
        let certificates = Arc::new(Certificates::new());
        let identity = Identity::new();
        let (entra, key_vault) = (Entra::new(), KeyVault::new(Arc::clone(&identity)));
        let openai = OpenAi::new(Arc::clone(&identity));
        let insights = Insights::new(Arc::clone(&identity));
        let routers = HashMap::from([
            (LOGIN_HOST, entra.router()),
            (VAULT_HOST, key_vault.router()),
            (OPENAI_HOST, openai.router()),
            (INSIGHTS_HOST, insights.router()),
        ]);
        let tunnels = Tunnels::open(Arc::clone(&certificates), routers).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let plain = listener.local_addr().unwrap();
        let router = identity.router().merge(openai.router());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { certificates, entra, identity, key_vault, openai, insights, tunnels, plain, serving }
    }

    /// What a program needs in its environment to be on this Azure. `NO_PROXY` keeps the identity's plain address from
    /// a proxy that this machine may have, and an empty `SSL_CERT_DIR` its certificates from the program.
    pub fn environment(&self) -> Vec<(String, String)> {
        let file = self.certificates.file().to_str().unwrap().to_owned();
        [
            ("HTTPS_PROXY", self.proxy()),
            ("NO_PROXY", "127.0.0.1,localhost".to_owned()),
            ("SSL_CERT_FILE", file),
            ("SSL_CERT_DIR", String::new()),
            ("IDENTITY_ENDPOINT", self.identity_endpoint()),
            ("IDENTITY_HEADER", self.identity.header.clone()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// The proxy's address.
    pub fn proxy(&self) -> String {
        self.tunnels.url()
    }

    /// Every target that the proxy was asked for, as `host:port`.
    pub fn tunnelled(&self) -> Vec<String> {
        self.tunnels.asked()
    }

    /// From the next connection on, a host shows such a certificate.
    pub fn present(&self, host: &str, flaw: Flaw) {
        self.tunnels.present(host, flaw);
    }

    pub fn identity_endpoint(&self) -> String {
        format!("http://{}{}", self.plain, identity::PATH)
    }

    /// Azure OpenAI without TLS, for a client that uses no proxy.
    pub fn plain_openai(&self) -> String {
        format!("http://{}", self.plain)
    }

    /// A caller's access token. See [`Entra::token`].
    pub fn entra_token(&self, claims: Value) -> String {
        self.entra.token(claims)
    }
}

impl Drop for LoopbackAzure {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
