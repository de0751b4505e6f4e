//! A private certificate authority, and certificates for any name, right ones and flawed ones. Nothing on the machine
//! trusts it: a client has to be given the file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    None,
    /// It is for another host.
    WrongName,
    /// It ended years ago.
    Expired,
    /// Another authority signed it, with the same name as ours.
    UnknownAuthority,
}

/// A certificate and its key as PEM files, which live as long as the authority. Both can be read by everyone, so that
/// a server under another account can have them; PostgreSQL itself wants its key with mode 0600 and as its own.
#[derive(Debug)]
pub struct CertificateFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// The authority.
pub struct Certificates {
    folder: TempDir,
    file: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
    stranger: CertifiedIssuer<'static, KeyPair>,
    written: AtomicUsize,
}

impl Certificates {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("rowgate-ca-").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let file = folder.path().join("ca.pem");
        let issuer = authority();
        fs::write(&file, issuer.pem()).unwrap();
        Self { folder, file, issuer, stranger: authority(), written: AtomicUsize::new(0) }
    }

    /// The authority's certificate, for `SSL_CERT_FILE` or `sslrootcert`.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The same as PEM text.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for these names or addresses, and its key, in a folder of their own.
    pub fn files(&self, hosts: &[&str], flaw: Flaw) -> CertificateFiles {
        let (certificate, key) = self.sign(hosts, flaw);
        let folder = self.folder.path().join(self.written.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir(&folder).unwrap();
        let files = CertificateFiles { certificate: folder.join("cert.pem"), key: folder.join("key.pem") };
        fs::write(&files.certificate, certificate.pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    /// What a TLS server for one host needs.
    pub fn server_config(&self, host: &str, flaw: Flaw) -> Arc<ServerConfig> {
        let (certificate, key) = self.sign(&[host], flaw);
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }

    fn sign(&self, hosts: &[&str], flaw: Flaw) -> (rcgen::Certificate, KeyPair) {
        let names = match flaw {
            Flaw::WrongName => vec!["elsewhere.example".to_owned()],
            _ => hosts.iter().map(|host| (*host).to_owned()).collect(),
        };
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, hosts[0]);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(if flaw == Flaw::Expired { 2021 } else { 2049 }, 1, 1);
        let key = KeyPair::generate().unwrap();
        let issuer = if flaw == Flaw::UnknownAuthority { &self.stranger } else { &self.issuer };
        (params.signed_by(&key, issuer).unwrap(), key)
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Rowgate's tests");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2049, 1, 1);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}
