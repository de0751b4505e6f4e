//! Azure's own client libraries on Azure on loopback, in this process. A process must not change its environment while
//! it runs, so they get what they need as options.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::{AccessToken, Secret, TokenCredential, TokenRequestOptions};
use azure_core::error::ErrorKind;
use azure_core::http::{ClientOptions, RetryOptions, Transport};
use azure_core::time::OffsetDateTime;
use azure_security_keyvault_secrets::{SecretClient, SecretClientOptions};
use reqwest::{Certificate, Client, Proxy, redirect};
use serde_json::Value;

use super::{CLIENT_ID, LoopbackAzure, VAULT_HOST};

impl LoopbackAzure {
    /// A client that goes through the proxy, and trusts our authority and no other. An environment with other proxies
    /// or certificates changes nothing for it.
    pub fn http_client(&self) -> Client {
        let authority = Certificate::from_pem(self.certificates.pem().as_bytes()).unwrap();
        Client::builder()
            .proxy(Proxy::https(self.proxy()).unwrap())
            .tls_certs_only([authority])
            .redirect(redirect::Policy::none())
            .timeout(Duration::from_secs(20))
            .build()
            .unwrap()
    }

    /// Options for any client of the SDK: the transport above, and one attempt for each request.
    pub fn client_options(&self) -> ClientOptions {
        let transport = Some(Transport::new(Arc::new(self.http_client())));
        ClientOptions { transport, retry: RetryOptions::none(), ..Default::default() }
    }

    /// The vault, as the managed identity.
    pub fn secret_client(&self) -> SecretClient {
        let options = SecretClientOptions { client_options: self.client_options(), ..Default::default() };
        SecretClient::new(&format!("https://{VAULT_HOST}"), self.credential(), Some(options)).unwrap()
    }

    /// The managed identity. Stands in for `ManagedIdentityCredential`, which knows its endpoint from the environment
    /// alone; unlike that one it keeps no token.
    pub fn credential(&self) -> Arc<dyn TokenCredential> {
        let (endpoint, header) = (self.identity_endpoint(), self.identity.header.clone());
        Arc::new(ManagedIdentity { endpoint, header, client: Client::builder().no_proxy().build().unwrap() })
    }
}

struct ManagedIdentity {
    endpoint: String,
    header: String,
    client: Client,
}

impl fmt::Debug for ManagedIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagedIdentity").finish_non_exhaustive()
    }
}

impl ManagedIdentity {
    async fn ask(&self, scope: &str) -> azure_core::Result<AccessToken> {
        let failed = |error: reqwest::Error| azure_core::Error::new(ErrorKind::Credential, error);
        let resource = scope.strip_suffix("/.default").unwrap();
        let mut url = reqwest::Url::parse(&self.endpoint).unwrap();
        url.query_pairs_mut().extend_pairs([
            ("api-version", "2019-08-01"),
            ("resource", resource),
            ("client_id", CLIENT_ID),
        ]);
        let request = self.client.get(url).header("x-identity-header", &self.header);
        let response = request.send().await.and_then(reqwest::Response::error_for_status).map_err(failed)?;
        let token: Value = response.json().await.map_err(failed)?;
        let end = token["expires_on"].as_str().unwrap().parse().unwrap();
        let text = token["access_token"].as_str().unwrap().to_owned();
        Ok(AccessToken::new(Secret::new(text), OffsetDateTime::from_unix_timestamp(end).unwrap()))
    }
}

/// The trait is written for `async_trait`, whose signature this is.
impl TokenCredential for ManagedIdentity {
    fn get_token<'s, 'scopes, 'scope, 'options, 'future>(
        &'s self,
        scopes: &'scopes [&'scope str],
        _: Option<TokenRequestOptions<'options>>,
    ) -> Pin<Box<dyn Future<Output = azure_core::Result<AccessToken>> + Send + 'future>>
    where
        's: 'future,
        'scopes: 'future,
        'scope: 'future,
        'options: 'future,
        Self: 'future,
    {
        Box::pin(self.ask(scopes[0]))
    }
}
