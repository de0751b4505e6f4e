//! TLS to PostgreSQL: on or off, and nothing in between. Where it is on, the server's certificate and name are verified
//! and a server that offers no TLS is not talked to; SCRAM binds to the channel where the server offers that (RFC 5929,
//! tls-server-end-point). Off is for a server on this machine.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::Config;
use tokio_postgres::config::Host;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::TlsSettings;

/// Whether and how connections to PostgreSQL are protected.
#[derive(Clone, Default)]
pub struct Tls {
    wanted: Option<bool>,
    roots: Option<PathBuf>,
    connector: Arc<OnceLock<MakeRustlsConnect>>,
}

/// Why nothing can be verified.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of root certificates.
    #[error("ROWGATE_DATABASE_ROOT_CERTIFICATES: {0} can not be read as PEM")]
    File(PathBuf, #[source] rustls::pki_types::pem::Error),
    /// It has none.
    #[error("ROWGATE_DATABASE_ROOT_CERTIFICATES: there is no certificate in {0}")]
    Empty(PathBuf),
    /// The library.
    #[error("TLS can not be set up")]
    Rustls(#[from] rustls::Error),
}

impl Tls {
    /// Reads nothing yet.
    pub fn new(settings: &TlsSettings) -> Self {
        Self { wanted: settings.wanted, roots: settings.roots.clone(), connector: Arc::default() }
    }

    /// What protects connections to these servers; `None` for no TLS, which unless set is for this machine's only.
    pub(super) fn connector(&self, config: &Config) -> Result<Option<MakeRustlsConnect>, TlsError> {
        if !self.is_for(config) {
            return Ok(None);
        }
        if let Some(connector) = self.connector.get() {
            return Ok(Some(connector.clone()));
        }
        let made = MakeRustlsConnect::new(self.client()?);
        // Kept, so that connections after the first resume its TLS session.
        Ok(Some(self.connector.get_or_init(|| made).clone()))
    }

    /// Whether connections to these servers are protected.
    pub(super) fn is_for(&self, config: &Config) -> bool {
        self.wanted.unwrap_or_else(|| !config.get_hosts().iter().all(is_here))
    }

    fn client(&self) -> Result<ClientConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        Ok(client.with_root_certificates(self.roots()?).with_no_client_auth())
    }

    /// The roots of the file that is set, else the system's, else Mozilla's as compiled in.
    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = &self.roots {
            let failed = |error| TlsError::File(path.clone(), error);
            for certificate in CertificateDer::pem_file_iter(path).map_err(failed)? {
                roots.add(certificate.map_err(failed)?)?;
            }
            return if roots.is_empty() { Err(TlsError::Empty(path.clone())) } else { Ok(roots) };
        }
        // One of many that can not be read is of another program's concern.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
        }
        Ok(roots)
    }
}

/// Whether a host is this machine, by its address or by the one name that means it.
fn is_here(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name.eq_ignore_ascii_case("localhost")
                || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protected(url: &str, wanted: Option<bool>) -> bool {
        let tls = Tls::new(&TlsSettings { wanted, roots: None });
        tls.connector(&url.parse().unwrap()).unwrap().is_some()
    }

    #[test]
    fn only_this_machine_is_talked_to_in_the_clear_unless_that_is_set() {
        for here in ["postgres://u@localhost/d", "postgres://u@127.0.0.1/d", "postgres://u@[::1]/d", "host=/tmp user=u"]
        {
            assert!(!protected(here, None), "{here}");
            assert!(protected(here, Some(true)), "{here}");
        }
        for away in ["postgres://u@db.example/d", "postgres://u@10.0.0.4/d", "postgres://u@localhost,db.example/d"] {
            assert!(protected(away, None), "{away}");
            // What the URL says of TLS weakens nothing.
            assert!(protected(&format!("{away}?sslmode=disable").replace("host=", ""), None), "{away}");
            assert!(!protected(away, Some(false)), "{away}");
        }
    }

    #[test]
    fn the_roots_that_azure_needs_are_compiled_in() {
        let names: Vec<String> = webpki_root_certs::TLS_SERVER_ROOT_CERTS
            .iter()
            .map(|certificate| String::from_utf8_lossy(certificate).into_owned())
            .collect();
        for root in ["DigiCert Global Root G2", "Microsoft RSA Root Certificate Authority 2017"] {
            assert!(names.iter().any(|name| name.contains(root)), "{root}");
        }
    }

    #[test]
    fn a_file_without_certificates_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("roots.pem");
        let of = |path: &std::path::Path| {
            let tls = Tls::new(&TlsSettings { wanted: Some(true), roots: Some(path.to_owned()) });
            tls.connector(&"postgres://u@localhost/d".parse().unwrap()).err().unwrap()
        };
        assert!(matches!(of(&path), TlsError::File(..)));
        std::fs::write(&path, "nothing").unwrap();
        assert!(matches!(of(&path), TlsError::Empty(_)));
    }
}
