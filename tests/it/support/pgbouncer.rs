//! PgBouncer in front of the tests' PostgreSQL, in transaction mode and with TLS: what stands before a larger Azure
//! Database for PostgreSQL. Its clients log in with a password of its own, as Azure's do with a token.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio_postgres::Config;

use super::azure::CertificateFiles;
use super::{TestDatabase, cluster};

/// How clients log in to it.
#[derive(Clone, Copy, Debug)]
pub enum Bouncing {
    /// SCRAM-SHA-256.
    Scram,
    /// The password in the clear, inside TLS, as Azure asks for a token.
    Plain,
}

pub struct PgBouncer {
    pub port: u16,
    _folder: TempDir,
    process: Child,
}

impl PgBouncer {
    /// `None`, with a word about it, where the program is not installed; fails there if it has to be.
    pub fn installed() -> Option<PathBuf> {
        let places = std::env::var("PATH").unwrap_or_default();
        let found = places.split(':').chain(["/usr/sbin"]).map(|place| Path::new(place).join("pgbouncer"));
        let found = found.into_iter().find(|path| path.exists());
        if found.is_none() {
            assert!(std::env::var_os("ROWGATE_TEST_PGBOUNCER").is_none(), "pgbouncer is not installed");
            eprintln!("pgbouncer is not installed, so nothing was tried through it");
        }
        found
    }

    /// In front of a database. `password`: what `rowgate_app` logs in to it with; `connections`: how many of the
    /// server's all clients share.
    pub fn start(
        program: &Path,
        database: &TestDatabase,
        certificate: &CertificateFiles,
        bouncing: Bouncing,
        password: &str,
        connections: usize,
    ) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self::start_on(port, program, database, certificate, bouncing, password, connections)
    }

    /// The same on a port, as after a restart.
    pub fn start_on(
        port: u16,
        program: &Path,
        database: &TestDatabase,
        certificate: &CertificateFiles,
        bouncing: Bouncing,
        password: &str,
        connections: usize,
    ) -> Self {
        let folder = tempfile::Builder::new().prefix("rowgate-pgbouncer-").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let (name, server) = (&database.name, cluster());
        let settings = folder.path().join("pgbouncer.ini");
        let users = folder.path().join("users.txt");
        let auth_type = match bouncing {
            Bouncing::Scram => "scram-sha-256",
            Bouncing::Plain => "plain",
        };
        fs::write(&users, user(password)).unwrap();
        fs::write(
            &settings,
            format!(
                "[databases]\n{name} = host=127.0.0.1 port={} dbname={name} user=rowgate_app password={}\n\
                 [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
                 pool_mode = transaction\ndefault_pool_size = {connections}\nmax_client_conn = 100\n\
                 auth_type = {auth_type}\nauth_file = {}\n\
                 client_tls_sslmode = require\nclient_tls_key_file = {}\nclient_tls_cert_file = {}\n\
                 server_tls_sslmode = disable\nlog_connections = 0\nlog_disconnections = 0\n",
                server.cluster.port(),
                server.app_password,
                users.display(),
                certificate.key.display(),
                certificate.certificate.display(),
            ),
        )
        .unwrap();
        let mut command = Command::new(program);
        command.arg("-q").arg(&settings).stdout(Stdio::null()).stderr(Stdio::null());
        if rustix::process::geteuid().is_root() {
            command.args(["-u", "nobody"]);
        }
        let mut process = command.spawn().unwrap();
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(process.try_wait().unwrap().is_none(), "pgbouncer did not start");
            assert!(started.elapsed() < Duration::from_secs(30), "pgbouncer does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { port, _folder: folder, process }
    }

    /// Ends it, and with it its clients' connections.
    pub fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// How `rowgate_app` reaches a database through it, by a name that its certificate may have.
    pub fn config(&self, database: &TestDatabase, password: &str) -> Config {
        let mut config = Config::new();
        config.host("localhost").port(self.port).user("rowgate_app").password(password).dbname(&database.name);
        config
    }
}

fn user(password: &str) -> String {
    format!("\"rowgate_app\" \"{password}\"\n")
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        self.stop();
    }
}
