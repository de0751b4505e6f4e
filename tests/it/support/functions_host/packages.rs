//! Packages to start: Rowgate's as it is deployed, and others for what a test needs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

/// The smallest host.json that starts `handler` and gives it every request.
pub fn host_json() -> Value {
    json!({
        "version": "2.0",
        "extensions": { "http": { "routePrefix": "" } },
        "customHandler": {
            "description": { "defaultExecutablePath": "handler", "arguments": [] },
            "enableProxyingHttpRequest": true,
        },
    })
}

/// A function that takes every request.
pub fn function_json() -> Value {
    let methods = ["get", "post", "put", "patch", "delete", "head", "options"];
    json!({ "bindings": [
        { "authLevel": "anonymous", "type": "httpTrigger", "direction": "in", "name": "req", "methods": methods,
            "route": "{*route}" },
        { "type": "http", "direction": "out", "name": "res" },
    ] })
}

/// A package without its executable.
pub fn package(host: &Value, function: &Value) -> TempDir {
    let folder = tempfile::Builder::new().prefix("rowgate-package-").tempdir().unwrap();
    fs::write(folder.path().join("host.json"), host.to_string()).unwrap();
    fs::create_dir(folder.path().join("function")).unwrap();
    fs::write(folder.path().join("function/function.json"), function.to_string()).unwrap();
    folder
}

/// The same with an executable, wherever that is.
pub fn package_of(host: &Value, executable: &Path) -> TempDir {
    let folder = package(host, &function_json());
    symlink(executable, folder.path().join("handler")).unwrap();
    folder
}

/// Rowgate as it is deployed: the repository's own host.json and function.json once it has them.
pub fn rowgate_package() -> TempDir {
    let own = |path: &str| fs::read_to_string(path).ok().map(|text| serde_json::from_str::<Value>(&text).unwrap());
    let host = own("host.json").unwrap_or_else(|| {
        let mut host = host_json();
        host["customHandler"]["description"] = json!({ "defaultExecutablePath": "rowgate", "arguments": ["serve"] });
        host
    });
    let folder = package(&host, &own("function/function.json").unwrap_or_else(function_json));
    let executable = host["customHandler"]["description"]["defaultExecutablePath"].as_str().unwrap();
    symlink(env!("CARGO_BIN_EXE_rowgate"), folder.path().join(executable)).unwrap();
    folder
}
