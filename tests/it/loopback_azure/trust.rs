//! Whom a client trusts, and what it knows from its environment alone.

use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use azure_core::http::{ClientOptions, RetryOptions};
use azure_identity::{ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId};
use azure_security_keyvault_secrets::{SecretClient, SecretClientOptions};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::again;
use crate::support::azure::{
    CLIENT_ID, CertificateFiles, Certificates, Flaw, KEYS, LOGIN_HOST, LoopbackAzure, TENANT, VAULT_HOST,
};

#[tokio::test]
async fn certificates_are_verified_and_unknown_hosts_are_not_reached() {
    let azure = LoopbackAzure::start().await;
    let url = format!("https://{LOGIN_HOST}/{TENANT}{KEYS}");
    assert_eq!(azure.http_client().get(&url).send().await.unwrap().status(), 200);
    // Nothing but our file makes the fakes credible.
    let untrusting = reqwest::Client::builder().proxy(reqwest::Proxy::https(azure.proxy()).unwrap()).build().unwrap();
    assert!(untrusting.get(&url).send().await.unwrap_err().is_connect());
    for flaw in [Flaw::WrongName, Flaw::Expired, Flaw::UnknownAuthority] {
        azure.present(LOGIN_HOST, flaw);
        let error = azure.http_client().get(&url).send().await.unwrap_err();
        assert!(
            format!("{error:?}").contains("InvalidCertificate") || format!("{error:?}").contains("BadSignature"),
            "{flaw:?}: {error:?}"
        );
    }
    azure.present(LOGIN_HOST, Flaw::None);
    assert_eq!(azure.http_client().get(&url).send().await.unwrap().status(), 200);
    let error = azure.http_client().get("https://example.com/").send().await.unwrap_err();
    assert!(error.is_connect(), "{error:?}");
    assert_eq!(azure.tunnelled().last().unwrap(), "example.com:443");

    let address = azure.proxy();
    drop(azure);
    let gone = async || TcpStream::connect(address.strip_prefix("http://").unwrap()).await.is_err();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !gone().await {
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
}

/// One handshake with a server that has these files, by a client that trusts the authority.
async fn handshake(authority: &Certificates, files: &CertificateFiles) -> Result<(), String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = vec![CertificateDer::from_pem_file(&files.certificate).unwrap()];
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(&files.key).unwrap())
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.file()).unwrap()).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        if let Ok(mut stream) = TlsAcceptor::from(Arc::new(server)).accept(stream).await {
            let _ = stream.write_all(b"!").await;
            let _ = stream.shutdown().await;
        }
    };
    let ask = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("db.example").unwrap();
        let mut stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await.map_err(|e| e.to_string())?;
        assert_eq!(stream.read_u8().await.unwrap(), b'!');
        Ok(())
    };
    tokio::join!(serve, ask).1
}

#[tokio::test]
async fn certificates_are_for_other_servers_too() {
    let authority = Certificates::new();
    let outcome = async |flaw| handshake(&authority, &authority.files(&["db.example", "127.0.0.1"], flaw)).await;
    assert_eq!(outcome(Flaw::None).await, Ok(()));
    let error = outcome(Flaw::WrongName).await.unwrap_err();
    assert!(error.contains("not valid for name"), "{error}");
    let error = outcome(Flaw::Expired).await.unwrap_err();
    assert!(error.contains("certificate expired"), "{error}");
    let error = outcome(Flaw::UnknownAuthority).await.unwrap_err();
    assert!(error.contains("BadSignature") || error.contains("UnknownIssuer"), "{error}");
}

const PROBE: &str = "ROWGATE_TEST_PROBE";

/// Clients as a program makes them that was not written for tests: everything comes from the environment.
async fn ask_as_a_program(secret: &str) {
    let user_assigned_id = Some(UserAssignedId::ClientId(CLIENT_ID.into()));
    // One attempt: the SDK would try a connection again for a minute.
    let client_options = ClientOptions { retry: RetryOptions::none(), ..Default::default() };
    let options = ManagedIdentityCredentialOptions { user_assigned_id, client_options: client_options.clone() };
    let credential = ManagedIdentityCredential::new(Some(options)).unwrap();
    let options = SecretClientOptions { client_options, ..Default::default() };
    let vault = SecretClient::new(&format!("https://{VAULT_HOST}/"), credential, Some(options)).unwrap();
    match vault.get_secret(secret, None).await {
        Ok(secret) => println!("vault: {}", secret.into_model().unwrap().value.unwrap()),
        Err(error) => println!("vault: {error:?}"),
    }
    // The second one is as Rowgate asks Azure OpenAI. No network resolves this name.
    let unproxied = reqwest::Client::builder().no_proxy().build().unwrap();
    for (name, client, url) in [
        ("default", reqwest::Client::new(), format!("https://{LOGIN_HOST}/{TENANT}{KEYS}")),
        ("no_proxy", unproxied, "https://nobody.invalid/".to_owned()),
    ] {
        match client.get(url).send().await {
            Ok(response) => println!("{name}: {}", response.status()),
            Err(error) => println!("{name}: {error:?}"),
        }
    }
}

/// Runs the probe; what it printed of each client.
async fn probe(environment: Vec<(String, String)>) -> impl Fn(&str) -> String {
    let (program, arguments) = again("loopback_azure::trust::a_program_is_on_loopback_by_its_environment_alone");
    let run = move || -> Output {
        Command::new(program).args(arguments).envs(environment).env(PROBE, "claim-key").output().unwrap()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    move |client: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(&format!("{client}: ")));
        line.unwrap_or_else(|| panic!("{said}")).to_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_is_on_loopback_by_its_environment_alone() {
    // In the process that `probe` starts, this is the program.
    if let Ok(secret) = std::env::var(PROBE) {
        return ask_as_a_program(&secret).await;
    }
    let azure = LoopbackAzure::start().await;
    azure.key_vault.set("claim-key", "k1:AAAA");
    let said = probe(azure.environment()).await;
    assert_eq!((said("vault"), said("default")), ("k1:AAAA".to_owned(), "200 OK".to_owned()));
    assert!(said("no_proxy").starts_with("reqwest::Error"), "{}", said("no_proxy"));
    assert_eq!(azure.identity.requests.all().len(), 1);
    assert_eq!(azure.tunnelled(), [format!("{VAULT_HOST}:443"), format!("{LOGIN_HOST}:443")]);

    // Verification is on: another authority in SSL_CERT_FILE, or a flawed certificate, ends it.
    let stranger = Certificates::new();
    let mut environment = azure.environment();
    let file = environment.iter_mut().find(|(name, _)| name == "SSL_CERT_FILE").unwrap();
    file.1 = stranger.file().to_str().unwrap().to_owned();
    let said = probe(environment).await;
    for client in ["vault", "default"] {
        assert!(said(client).contains("InvalidCertificate"), "{}", said(client));
    }
    azure.present(VAULT_HOST, Flaw::Expired);
    let said = probe(azure.environment()).await;
    assert!(said("vault").contains("Expired"), "{}", said("vault"));
    assert_eq!(azure.key_vault.reads("claim-key"), 1);
}
