//! The house keeps its own rules: floors, opening lines, one reader of the environment, settings that are documented.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room and the rooms that it may use. `main` may use all.
const FLOORS: &[(&str, &[&str])] = &[
    ("dev", &["app", "config", "db", "http", "identity", "indexing", "retail", "telemetry"]),
    ("doctor", &["app", "config", "db", "domain", "embedding", "identity", "telemetry"]),
    ("app", &["config", "db", "domain", "embedding", "http", "identity", "mcp", "secrets", "telemetry"]),
    ("http", &["config", "db", "identity", "mcp", "telemetry"]),
    ("mcp", &["config", "db", "domain", "embedding", "identity", "telemetry"]),
    ("indexing", &["db", "domain", "embedding"]),
    ("retail", &["db", "identity"]),
    ("embedding", &["telemetry"]),
    ("secrets", &["telemetry"]),
    ("db", &["config", "domain", "identity", "telemetry"]),
    ("identity", &["domain"]),
    ("config", &["domain", "identity"]),
    ("telemetry", &["config"]),
    ("domain", &[]),
];

fn sources() -> BTreeMap<PathBuf, String> {
    fn collect(folder: &Path, into: &mut BTreeMap<PathBuf, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, into);
            } else if path.extension().is_some_and(|e| e == "rs") {
                into.insert(path.clone(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut sources = BTreeMap::new();
    collect(Path::new("src"), &mut sources);
    assert!(sources.len() > 30);
    sources
}

/// The room that a file belongs to.
fn room(path: &Path) -> String {
    let inside = path.strip_prefix("src").unwrap();
    inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

#[test]
fn imports_go_downward_only() {
    for (path, text) in sources() {
        let room = room(&path);
        if ["main", "lib"].contains(&room.as_str()) {
            continue;
        }
        let (_, allowed) =
            FLOORS.iter().find(|(name, _)| *name == room).unwrap_or_else(|| panic!("{room} has no floor"));
        for used in text.split("crate::").skip(1) {
            let used: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let is_room = FLOORS.iter().any(|(name, _)| *name == used);
            assert!(!is_room || used == room || allowed.contains(&used.as_str()), "{}: crate::{used}", path.display());
        }
    }
    // The table itself goes downward: no room uses one that uses it.
    for (upper, uses) in FLOORS {
        for lower in *uses {
            let (_, back) = FLOORS.iter().find(|(name, _)| name == lower).unwrap();
            assert!(!back.contains(upper), "{upper} and {lower} use each other");
        }
    }
}

#[test]
fn every_file_says_what_its_room_is_for_and_stays_short() {
    for (path, text) in sources() {
        assert!(text.starts_with("//! "), "{}", path.display());
        assert!(text.lines().count() <= 400, "{} has {} lines", path.display(), text.lines().count());
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(!["util", "utils", "common", "helpers", "manager"].contains(&name), "{}", path.display());
    }
}

#[test]
fn sql_rmcp_and_the_environment_have_one_room_each() {
    for (path, text) in sources() {
        let room = room(&path);
        let code = text.split("#[cfg(test)]").next().unwrap();
        if !["db", "dev"].contains(&room.as_str()) {
            for word in ["batch_execute", "query_typed", "simple_query", ".query_one(", "execute("] {
                assert!(!code.contains(word), "{}: {word}", path.display());
            }
        }
        if !["mcp", "http"].contains(&room.as_str()) {
            assert!(!code.contains("rmcp::"), "{}", path.display());
        }
        if room != "config" {
            assert!(!code.contains("env::var"), "{}", path.display());
        }
        // Names of the sample's belong to the sample, its profile and its folder of the command line.
        if !["retail", "main", "dev"].contains(&room.as_str()) {
            for word in ["zava", "product", "sales", "customer"] {
                let found = code.to_lowercase().contains(word);
                assert!(!found, "{}: {word}", path.display());
            }
        }
    }
}

#[test]
fn the_network_and_tokens_have_few_doors() {
    for (path, text) in sources() {
        let door =
            |doors: &[&str]| doors.iter().any(|door| path.starts_with(door) || path.ends_with(format!("{door}.rs")));
        if !door(&["src/embedding/azure_openai", "src/identity/entra", "src/telemetry/courier"]) {
            assert!(!text.contains("reqwest::"), "{}", path.display());
        }
        if !door(&["src/identity/entra"]) {
            assert!(!text.contains("jsonwebtoken::"), "{}", path.display());
        }
    }
}

#[test]
fn the_readme_has_every_setting_as_the_code_has_it() {
    let readme = fs::read_to_string("README.md").unwrap();
    for (name, unset, meaning) in rowgate::config::VARIABLES {
        let row = format!("| `{name}` | {unset} | {meaning} |");
        assert!(readme.contains(&row), "README.md lacks this row:\n{row}");
    }
    let rows = readme.lines().filter(|line| line.starts_with("| `ROWGATE_")).count();
    assert_eq!(rows, rowgate::config::VARIABLES.len());
}

#[test]
fn the_version_is_in_the_changelog() {
    let changelog = fs::read_to_string("CHANGELOG.md").unwrap();
    assert!(changelog.contains(&format!("## {}", env!("CARGO_PKG_VERSION"))));
}
