//! What a deployed package says: host.json, a folder with function.json for each function, and the executable. Read as
//! strictly as the host reads it, and more strictly where the host would start and then not do what we need.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use axum::http::Method;
use serde_json::Value;

/// What a package can not be started for.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    #[error("{0} is missing from the package or can not be read")]
    Missing(PathBuf, #[source] std::io::Error),
    #[error("{0} is not JSON")]
    Json(PathBuf, #[source] serde_json::Error),
    #[error("{0}: {1}")]
    Wrong(PathBuf, &'static str),
    #[error("no folder of the package has a function.json")]
    NoFunction,
}

/// A package that can be started.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) folder: PathBuf,
    pub(super) executable: PathBuf,
    pub(super) arguments: Vec<String>,
    functions: Vec<Function>,
}

#[derive(Debug)]
struct Function {
    /// None given means all of them.
    methods: Vec<String>,
    anonymous: bool,
    route: Vec<Segment>,
}

#[derive(Debug)]
enum Segment {
    Literal(String),
    Any,
    Rest,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Routed {
    ToFunction,
    /// The function wants a key, and no client here has one.
    WantsKey,
    Nowhere,
}

impl Package {
    pub(super) fn read(folder: &Path) -> Result<Self, PackageError> {
        let path = folder.join("host.json");
        let host = json(&path)?;
        let wrong = |what| PackageError::Wrong(path.clone(), what);
        if host["version"] != "2.0" {
            return Err(wrong("version is not \"2.0\""));
        }
        if !host["configurationProfile"].is_null() {
            return Err(wrong("configurationProfile and folders with function.json exclude each other"));
        }
        let handler = &host["customHandler"];
        let description = &handler["description"];
        let Some(executable) = description["defaultExecutablePath"].as_str() else {
            return Err(wrong("customHandler.description.defaultExecutablePath is missing"));
        };
        if handler["enableProxyingHttpRequest"] != true {
            return Err(wrong("customHandler.enableProxyingHttpRequest is not true: requests would come as JSON"));
        }
        let executable = folder.join(executable);
        make_executable(&executable)?;
        let arguments = description["arguments"].as_array().map(Vec::as_slice).unwrap_or_default();
        let arguments = arguments.iter().map(|argument| argument.as_str().map(str::to_owned)).collect();
        let Some(arguments) = arguments else { return Err(wrong("an argument is not a string")) };
        let prefix = host["extensions"]["http"]["routePrefix"].as_str().unwrap_or("api").to_owned();
        let functions = Function::read_all(folder, &prefix)?;
        Ok(Self { folder: folder.to_owned(), executable, arguments, functions })
    }

    pub(super) fn route(&self, method: &Method, path: &str) -> Routed {
        let takes = |function: &&Function| {
            function.methods.is_empty()
                || function.methods.iter().any(|known| known.eq_ignore_ascii_case(method.as_str()))
        };
        match self.functions.iter().filter(takes).find(|function| fits(&function.route, path)) {
            Some(function) if function.anonymous => Routed::ToFunction,
            Some(_) => Routed::WantsKey,
            None => Routed::Nowhere,
        }
    }
}

impl Function {
    fn read_all(folder: &Path, prefix: &str) -> Result<Vec<Self>, PackageError> {
        let missing = |error| PackageError::Missing(folder.to_owned(), error);
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).map_err(missing)? {
            let entry = entry.map_err(missing)?;
            files.push((entry.file_name(), entry.path().join("function.json")));
        }
        files.retain(|(_, file)| file.is_file());
        if files.is_empty() {
            return Err(PackageError::NoFunction);
        }
        files.into_iter().map(|(name, file)| Self::read(&file, &name.to_string_lossy(), prefix)).collect()
    }

    /// Requests are proxied to a function with an HTTP trigger, an HTTP output and nothing else.
    fn read(file: &Path, name: &str, prefix: &str) -> Result<Self, PackageError> {
        let json = json(file)?;
        let wrong = |what| PackageError::Wrong(file.to_owned(), what);
        let bindings = json["bindings"].as_array().map(Vec::as_slice).unwrap_or_default();
        let of = |binding: &&Value, kind: &str| binding["type"].as_str().is_some_and(|t| t.eq_ignore_ascii_case(kind));
        let Some(trigger) = bindings.iter().find(|binding| of(binding, "httpTrigger")) else {
            return Err(wrong("it has no httpTrigger"));
        };
        let output = bindings.iter().find(|binding| of(binding, "http"));
        if output.is_none_or(|output| output["direction"] != "out") || bindings.len() != 2 {
            return Err(wrong("beside the httpTrigger there has to be one binding of type http and direction out"));
        }
        if trigger["direction"] != "in" || !trigger["name"].is_string() {
            return Err(wrong("the httpTrigger has no name, or its direction is not in"));
        }
        let methods = trigger["methods"].as_array().map(Vec::as_slice).unwrap_or_default();
        let methods = methods.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let anonymous = trigger["authLevel"].as_str().is_some_and(|level| level.eq_ignore_ascii_case("anonymous"));
        let route = format!("{prefix}/{}", trigger["route"].as_str().unwrap_or(name));
        Ok(Self { methods, anonymous, route: route.split('/').filter(|part| !part.is_empty()).map(segment).collect() })
    }
}

fn segment(part: &str) -> Segment {
    match part.strip_prefix('{') {
        Some(name) if name.starts_with('*') => Segment::Rest,
        Some(_) => Segment::Any,
        None => Segment::Literal(part.to_owned()),
    }
}

fn fits(route: &[Segment], path: &str) -> bool {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    for segment in route {
        match (segment, parts.next()) {
            (Segment::Rest, _) => return true,
            (Segment::Any, Some(_)) => {}
            (Segment::Literal(literal), Some(part)) if literal.eq_ignore_ascii_case(part) => {}
            _ => return false,
        }
    }
    parts.next().is_none()
}

fn json(path: &Path) -> Result<Value, PackageError> {
    let text = fs::read(path).map_err(|error| PackageError::Missing(path.to_owned(), error))?;
    serde_json::from_slice(&text).map_err(|error| PackageError::Json(path.to_owned(), error))
}

/// The host gives the executable its owner's execute bit, which archives made on Windows lack.
fn make_executable(path: &Path) -> Result<(), PackageError> {
    let missing = |error| PackageError::Missing(path.to_owned(), error);
    let metadata = fs::metadata(path).map_err(missing)?;
    if !metadata.is_file() {
        return Err(PackageError::Wrong(path.to_owned(), "it is not a file"));
    }
    let mode = metadata.permissions().mode();
    if mode & 0o100 == 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(mode | 0o100)).map_err(missing)?;
    }
    Ok(())
}
