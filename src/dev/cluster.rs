//! A PostgreSQL server of our own: made once in a data folder, reached on loopback only, and gone when we are. Runs as
//! an unprivileged user where we are root, which PostgreSQL refuses to be.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio_postgres::Config;

use super::wheel::{WheelError, at};

/// Keeps the server only as long as its standard input is open.
const SUPERVISE: &str = include_str!("supervise.sh");

/// How long the server may take to start, recovery after a crash included.
const START: Duration = Duration::from_secs(60);

/// Whether the data must outlive the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It is kept: every commit reaches the disk.
    Kept,
    /// It is thrown away with the folder: nothing waits for the disk.
    Scratch,
}

/// A running server. Stops when dropped, or when the process ends in any other way.
pub struct Cluster {
    supervisor: Child,
    port: u16,
    superuser_password: String,
}

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A file or folder.
    #[error(transparent)]
    File(#[from] WheelError),
    /// `initdb` failed.
    #[error("initdb failed: {0}")]
    Initdb(String),
    /// The server ended or did not answer.
    #[error("PostgreSQL did not start; the end of {log} says:\n{said}")]
    Start {
        /// Its log.
        log: PathBuf,
        /// The end of it.
        said: String,
    },
    /// Neither `postgres` nor `nobody` is on this machine.
    #[error("PostgreSQL refuses to run as root, and /etc/passwd has neither the user postgres nor nobody to run it as")]
    NoAccount,
    /// An unprivileged user can not get to the folder.
    #[error("PostgreSQL does not run as root, and the user that it runs as can not enter {0}: choose another folder")]
    Closed(PathBuf),
    /// A program could not be started.
    #[error("{0} can not be run")]
    Run(PathBuf, #[source] io::Error),
    /// No port is free.
    #[error("no port is free on 127.0.0.1")]
    Port(#[source] io::Error),
}

impl Cluster {
    /// Starts the server of a folder, making it first if it is new. `home`: where PostgreSQL is installed.
    pub async fn start(
        home: &Path,
        folder: &Path,
        superuser_password: &str,
        durability: Durability,
    ) -> Result<Self, ClusterError> {
        let account = Account::to_run_as()?;
        if let Some(account) = &account {
            for path in [home, folder] {
                at(path, path.canonicalize())?.ancestors().try_for_each(|folder| account.can_enter(folder))?;
            }
        }
        let data = folder.join("pgdata");
        if !data.is_dir() {
            initialise(home, folder, &data, superuser_password, durability, account.as_ref())?;
        }
        let log = folder.join("postgres.log");
        let deadline = Instant::now() + START;
        loop {
            let port = free_port().map_err(ClusterError::Port)?;
            let supervisor = supervise(home, folder, &data, &log, port, durability, account.as_ref())?;
            let mut cluster = Self { supervisor, port, superuser_password: superuser_password.to_owned() };
            if cluster.answers(deadline).await {
                return Ok(cluster);
            }
            drop(cluster);
            let said = end_of(&log);
            // The server of a process that died a moment ago is still on its way out, or our port was taken meanwhile.
            let passing = said.contains("postmaster.pid") || said.contains("Address already in use");
            if !passing || Instant::now() > deadline {
                return Err(ClusterError::Start { log, said });
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// How to connect to a database as the superuser.
    pub fn superuser(&self, database: &str) -> Config {
        self.login("postgres", &self.superuser_password, database)
    }

    /// How to connect to a database as another role.
    pub fn login(&self, role: &str, password: &str, database: &str) -> Config {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).user(role).password(password).dbname(database);
        config
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits until it takes connections, it ends, or the deadline is over.
    async fn answers(&mut self, deadline: Instant) -> bool {
        let config = self.superuser("postgres");
        while Instant::now() < deadline {
            if !matches!(self.supervisor.try_wait(), Ok(None)) {
                return false;
            }
            if let Ok((client, connection)) = config.connect(tokio_postgres::NoTls).await {
                let connection = tokio::spawn(connection);
                let alive = client.simple_query("").await.is_ok();
                connection.abort();
                if alive {
                    return true;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        let _ = self.supervisor.wait();
    }
}

fn initialise(
    home: &Path,
    folder: &Path,
    data: &Path,
    superuser_password: &str,
    durability: Durability,
    account: Option<&Account>,
) -> Result<(), ClusterError> {
    // Made under another name, so that a folder named pgdata is a whole one.
    let unfinished = folder.join("pgdata.new");
    if unfinished.exists() {
        at(&unfinished, fs::remove_dir_all(&unfinished))?;
    }
    at(&unfinished, fs::create_dir(&unfinished))?;
    let password_file = folder.join("password.new");
    at(&password_file, write_private(&password_file, superuser_password))?;
    if let Some(account) = account {
        at(&unfinished, account.own(&unfinished))?;
        at(&password_file, account.own(&password_file))?;
    }
    let initdb = home.join("bin").join("initdb");
    let mut command = Command::new(&initdb);
    command.arg("--pgdata").arg(&unfinished).arg("--pwfile").arg(&password_file);
    command.args(["--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8"]);
    command.arg("--locale=C");
    if has_builtin_locales(&initdb) {
        command.args(["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]);
    }
    if durability == Durability::Scratch {
        command.arg("--no-sync");
    }
    run_as(&mut command, account, folder);
    let done = command.stdin(Stdio::null()).output().map_err(|error| ClusterError::Run(initdb, error))?;
    at(&password_file, fs::remove_file(&password_file))?;
    if !done.status.success() {
        return Err(ClusterError::Initdb(String::from_utf8_lossy(&done.stderr).trim().to_owned()));
    }
    Ok(at(data, fs::rename(&unfinished, data))?)
}

/// PostgreSQL 17 brought a locale that knows Unicode and is the same everywhere.
fn has_builtin_locales(initdb: &Path) -> bool {
    let version = Command::new(initdb).arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    let version = String::from_utf8_lossy(&version);
    let major = version.split_whitespace().find_map(|word| word.split('.').next()?.parse::<u32>().ok());
    major.is_some_and(|major| major >= 17)
}

fn supervise(
    home: &Path,
    folder: &Path,
    data: &Path,
    log: &Path,
    port: u16,
    durability: Durability,
    account: Option<&Account>,
) -> Result<Child, ClusterError> {
    let (signal, scratch) = match durability {
        Durability::Kept => ("INT", Path::new("")),
        Durability::Scratch => ("QUIT", folder),
    };
    let log_file = at(log, File::create(log))?;
    let log_copy = at(log, log_file.try_clone())?;
    let mut command = Command::new("sh");
    command.arg("-c").arg(SUPERVISE).arg("sh");
    command.arg(home.join("bin").join("postgres")).arg(signal).arg(scratch).arg("-D").arg(data);
    let mut set = |setting: &str| {
        command.arg("-c").arg(setting);
    };
    set("listen_addresses=127.0.0.1");
    set(&format!("port={port}"));
    set("unix_socket_directories=");
    set("log_min_messages=warning");
    set("max_connections=200");
    // What a large instance would have changes plans; what a laptop has is enough.
    set("shared_buffers=128MB");
    if durability == Durability::Scratch {
        set("fsync=off");
        set("synchronous_commit=off");
        set("full_page_writes=off");
    }
    run_as(&mut command, account, folder);
    // A process group of its own: Ctrl-C is for us, and we stop the server when our calls have ended.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command
        .stdin(Stdio::piped())
        .stdout(log_file)
        .stderr(log_copy)
        .spawn()
        .map_err(|error| ClusterError::Run(PathBuf::from("sh"), error))
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// The last 2,000 bytes of a file, whole lines.
fn end_of(log: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(2_000)))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).trim().to_owned())
    };
    read().unwrap_or_default()
}

/// Writes a file that nobody else can read.
pub(super) fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    io::Write::write_all(&mut options.open(path)?, text.as_bytes())
}

/// An unprivileged user.
struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// Whom to run PostgreSQL as: somebody else if we are root, else ourselves.
    #[cfg(unix)]
    fn to_run_as() -> Result<Option<Self>, ClusterError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let find = |name: &str| {
            let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
            let mut fields = line.split(':').skip(2);
            Some(Self { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
        };
        find("postgres").or_else(|| find("nobody")).map(Some).ok_or(ClusterError::NoAccount)
    }

    #[cfg(not(unix))]
    fn to_run_as() -> Result<Option<Self>, ClusterError> {
        Ok(None)
    }

    #[cfg(unix)]
    fn can_enter(&self, folder: &Path) -> Result<(), ClusterError> {
        use std::os::unix::fs::MetadataExt;
        let about = at(folder, fs::metadata(folder))?;
        let open = about.mode() & 0o001 != 0 || about.uid() == self.uid;
        if open { Ok(()) } else { Err(ClusterError::Closed(folder.to_owned())) }
    }

    #[cfg(not(unix))]
    fn can_enter(&self, _: &Path) -> Result<(), ClusterError> {
        Ok(())
    }

    #[cfg(unix)]
    fn own(&self, path: &Path) -> io::Result<()> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
    }

    #[cfg(not(unix))]
    fn own(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// Has a command run as an account, in a folder that it may be in.
fn run_as(command: &mut Command, account: Option<&Account>, folder: &Path) {
    command.current_dir(folder);
    #[cfg(unix)]
    if let Some(account) = account {
        use std::os::unix::process::CommandExt;
        command.uid(account.uid).gid(account.gid);
    }
    #[cfg(not(unix))]
    let _ = account;
}

/// Makes a folder that PostgreSQL's account may use and, where it is to be thrown away, remove.
pub fn make_folder(folder: &Path, durability: Durability) -> Result<(), ClusterError> {
    at(folder, fs::create_dir_all(folder))?;
    if durability == Durability::Scratch
        && let Some(account) = Account::to_run_as()?
    {
        at(folder, account.own(folder))?;
    }
    Ok(())
}

/// Where what is fetched and made is kept. Root's home is closed to others, PostgreSQL's account among them.
pub fn cache_folder(setting: Option<&Path>, users: Option<&Path>) -> PathBuf {
    match (setting, users) {
        (Some(setting), _) => setting.to_owned(),
        #[cfg(unix)]
        _ if rustix::process::geteuid().is_root() => PathBuf::from("/var/cache/rowgate"),
        (None, Some(users)) => users.join("rowgate"),
        (None, None) => std::env::temp_dir().join("rowgate"),
    }
}
