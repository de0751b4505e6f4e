//! Handlers that do not work, and packages that are not right: what the functions host makes of them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::functions_host::{
    FunctionsHost, HostError, PackageError, Severity, function_json, host_json, package,
};

/// A package whose executable is a shell script. The execute bit is missing, as from an archive made on Windows.
fn script(text: &str) -> TempDir {
    let folder = package(&host_json(), &function_json());
    fs::write(folder.path().join("handler"), format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(folder.path().join("handler"), fs::Permissions::from_mode(0o644)).unwrap();
    folder
}

#[tokio::test]
async fn handlers_that_never_answer_are_no_handlers() {
    let start = async |folder: &TempDir| FunctionsHost::start(folder.path(), &[]).await.err().unwrap();
    let HostError::NotReady(log) = start(&script("echo 'Fatal ERROR' >&2; exit 3")).await else { panic!() };
    assert_eq!(log.iter().filter(|line| line.severity == Severity::Error).count(), 3, "{log:?}");
    // Code 0 is an end that the host takes no notice of; 200 asks for another start, and is no crash.
    let HostError::NotReady(log) = start(&script("echo once")).await else { panic!() };
    assert_eq!(log.len(), 1);
    let folder = script("test -e started && exit 0; touch started; exit 200");
    assert!(matches!(start(&folder).await, HostError::NotReady(_)));
    assert!(folder.path().join("started").exists());
}

#[tokio::test]
async fn a_package_has_to_be_right() {
    let wrong = async |change: &dyn Fn(&mut Value, &mut Value)| {
        let (mut host, mut function) = (host_json(), function_json());
        change(&mut host, &mut function);
        let folder = package(&host, &function);
        fs::write(folder.path().join("handler"), "#!/bin/sh\n").unwrap();
        match FunctionsHost::start(folder.path(), &[]).await.err().unwrap() {
            HostError::Package(PackageError::Wrong(_, why)) => why.to_owned(),
            other => format!("{other:?}"),
        }
    };
    type Change = fn(&mut Value, &mut Value);
    let changes: [(Change, &str); 7] = [
        (|host, _| host["version"] = json!("1.0"), "version"),
        (|host, _| host["configurationProfile"] = json!("mcp-custom-handler"), "exclude each other"),
        (|host, _| host["customHandler"] = json!({}), "defaultExecutablePath"),
        (|host, _| host["customHandler"]["enableProxyingHttpRequest"] = json!(false), "enableProxyingHttpRequest"),
        (|host, _| host["customHandler"]["description"]["defaultExecutablePath"] = json!("another"), "Missing"),
        (|_, function| function["bindings"][0]["type"] = json!("queueTrigger"), "no httpTrigger"),
        (|_, function| _ = function["bindings"].as_array_mut().unwrap().pop(), "direction out"),
    ];
    for (change, why) in changes {
        let said = wrong(&change).await;
        assert!(said.contains(why), "{said}");
    }
    let start = async |folder: &Path| FunctionsHost::start(folder, &[]).await.err().unwrap();
    let folder = package(&host_json(), &function_json());
    fs::remove_dir_all(folder.path().join("function")).unwrap();
    fs::write(folder.path().join("handler"), "#!/bin/sh\n").unwrap();
    assert!(matches!(start(folder.path()).await, HostError::Package(PackageError::NoFunction)));
    fs::write(folder.path().join("host.json"), "{").unwrap();
    assert!(matches!(start(folder.path()).await, HostError::Package(PackageError::Json(..))));
    fs::remove_file(folder.path().join("host.json")).unwrap();
    assert!(matches!(start(folder.path()).await, HostError::Package(PackageError::Missing(..))));
    let folder = package(&host_json(), &function_json());
    fs::write(folder.path().join("handler"), "no program").unwrap();
    assert!(matches!(start(folder.path()).await, HostError::Start(_)));
}
