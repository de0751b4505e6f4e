//! A small disk of its own for a server's data, so that it can really be full: a tmpfs. It takes root to mount one, and
//! it is gone however the test ends.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Keeps it mounted for as long as standard input stays open. $1: its size, $2: where, $3: whose.
const KEEP: &str = r#"mount -t tmpfs -o "size=$1,mode=0755,uid=$3" rowgate-faults "$2" || exit 1
echo mounted
read -r _
umount -l "$2""#;

/// Enough for the data, and for what the server writes while it is made.
const SIZE: &str = "640m";

pub(super) struct SmallDisk {
    keeper: Child,
    folder: PathBuf,
}

impl SmallDisk {
    /// `None`, with a word about it, where nothing can be mounted. Who is not root may let it ask sudo, by
    /// `ROWGATE_TEST_SMALL_DISK=sudo`.
    pub(super) fn mount(folder: &Path) -> Option<Self> {
        let user = rustix::process::geteuid();
        let sudo = !user.is_root() && std::env::var("ROWGATE_TEST_SMALL_DISK").is_ok_and(|how| how == "sudo");
        let mut command = Command::new(if sudo { "sudo" } else { "sh" });
        if sudo {
            command.args(["-n", "sh"]);
        }
        command.args(["-c", KEEP, "sh", SIZE]).arg(folder).arg(user.as_raw().to_string());
        // Ctrl-C is not for it: it ends when the test does.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut keeper = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut said).unwrap();
        if said.trim() == "mounted" {
            return Some(Self { keeper, folder: folder.to_owned() });
        }
        let why = keeper.wait_with_output().unwrap().stderr;
        println!("{}: so a disk that is full was not tried", String::from_utf8_lossy(&why).trim());
        None
    }

    /// Fills it to its last block, or again after something was removed.
    pub(super) fn fill(&self) {
        let mut ballast = File::options().create(true).append(true).open(self.ballast()).unwrap();
        for block in [vec![1; 1 << 20], vec![1; 1 << 12]] {
            while ballast.write_all(&block).is_ok() {}
        }
    }

    /// There is room again.
    pub(super) fn clear(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
