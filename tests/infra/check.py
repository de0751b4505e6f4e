"""Checks the deployment without Azure and without a compiler: host.json, azure.yaml, the function, and every Bicep file
against the types that Azure publishes. First it checks itself, on files that are broken on purpose.

It knows types and names, not what expressions come to. Where a Bicep compiler is on the PATH it is asked too.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import yaml

import bicep
import bicep_types
import broken
import modules

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = Path(os.environ.get("ROWGATE_SCHEMAS", ROOT / "../shared/schemas")).resolve()
GRAPH = "Microsoft.Graph/"
# Variables that azd sets by itself.
OF_AZD = {"AZURE_ENV_NAME", "AZURE_SUBSCRIPTION_ID", "AZURE_LOCATION", "AZURE_TENANT_ID"}
# Switches of the scripts, set by whoever runs them.
SWITCHES = {"DEPLOYMENT", "INSIDE_VNET", "SEED"}

problems = []
skipped = []


def report(file):
    return lambda where, what: problems.append(f"{file}: {where}: {what}")


def one_file(text, types, tell):
    """What can be said of a file by itself."""
    try:
        file = bicep.File(text)
    except bicep.Mistake as mistake:
        tell("-", str(mistake))
        return None
    check = bicep_types.Check(types, file, tell)
    for name, declared in file.resources.items():
        if declared["type"].startswith(GRAPH) and not types.knows_provider(declared["type"]):
            skipped.append(f"{declared['type']}: the types of Microsoft Graph are not here")
        else:
            check.resource(name, declared)
    modules.names(file, tell)
    return file


def myself(types):
    """A check that misses what is wrong on purpose checks nothing."""
    for text in broken.SOUND:
        found = []
        one_file(text, types, lambda where, what: found.append(f"{where}: {what}"))
        if found:
            sys.exit(f"the check itself is broken: a sound file is said to be wrong: {found}")
    for what, text, expected in broken.BROKEN:
        found = []
        one_file(text, types, lambda where, message: found.append(f"{where}: {message}"))
        if not any(expected in message for message in found):
            sys.exit(f"the check itself is broken: {what} was not found, only {found}")
    for what, (upper, lower), expected in broken.PAIRS:
        path, found = ROOT / "infra/upper.bicep", []
        files = {path: bicep.File(upper), path.with_name("lower.bicep"): bicep.File(lower)}
        modules.modules(path, files[path], files, lambda where, message: found.append(f"{where}: {message}"))
        if not any(expected in message for message in found) if expected else found:
            sys.exit(f"the check itself is broken: {what} was not found, only {found}")


def schema(name, document):
    wanted = json.loads((SCHEMAS / document).read_text())
    loaded = yaml.safe_load((ROOT / name).read_text())
    validator = jsonschema.validators.validator_for(wanted)(wanted)
    for error in validator.iter_errors(loaded):
        deepest = jsonschema.exceptions.best_match([error])
        report(name)("/".join(map(str, deepest.absolute_path)) or "-", deepest.message)
    return loaded


def function(host):
    tell = report("function/function.json")
    bindings = json.loads((ROOT / "function/function.json").read_text())["bindings"]
    trigger = next((b for b in bindings if b["type"] == "httpTrigger"), {})
    expected = {"direction": "in", "authLevel": "anonymous", "route": "{*route}"}
    for key, value in expected.items():
        if trigger.get(key) != value:
            tell(key, f"is {trigger.get(key)!r}, but should be {value!r}")
    missing = {"get", "post", "put", "patch", "delete", "head", "options"} - set(trigger.get("methods", []))
    if missing:
        tell("methods", f"lacks {', '.join(sorted(missing))}")
    if [b["direction"] for b in bindings if b["type"] == "http"] != ["out"]:
        tell("bindings", "wants one answer of type http")
    tell = report("host.json")
    handler = host.get("customHandler", {})
    for ok, what in (
        (handler.get("enableProxyingHttpRequest") is True, "enableProxyingHttpRequest should be true"),
        (handler.get("description", {}).get("defaultExecutablePath") == "rowgate", "the program should be rowgate"),
        (handler.get("description", {}).get("arguments") == ["serve"], "the arguments should be serve"),
        (host.get("extensions", {}).get("http", {}).get("routePrefix") == "", "routePrefix should be empty"),
        ("configurationProfile" not in host, "a configurationProfile refuses function.json"),
    ):
        if not ok:
            tell("-", what)


def hooks(project):
    known = json.loads((SCHEMAS / "azure.yaml.schema.json").read_text())["properties"]["services"]["additionalProperties"]
    for service, given in project.get("services", {}).items():
        for name in sorted(set(given) - set(known["properties"])):
            report("azure.yaml")(f"services/{service}", f"{name} is nothing that azd knows")
    every = [project, *project.get("services", {}).values()]
    for name, hook in [item for owner in every for item in owner.get("hooks", {}).items()]:
        script = ROOT / hook["run"]
        if not script.is_file() or not os.access(script, os.X_OK):
            report("azure.yaml")(name, f"{hook['run']} is not there, or can not be run")


def parameters(main):
    """main.parameters.json gives what has no default, and says the same where there is one. Returns the variables that
    are always set, because nothing else stands in for them."""
    tell = report("infra/main.parameters.json")
    given = json.loads((ROOT / "infra/main.parameters.json").read_text())["parameters"]
    always = set()
    for name, setting in given.items():
        found = re.fullmatch(r"\$\{(\w+)(?:=(.*))?\}", setting["value"])
        if not found or name not in main.parameters:
            tell(name, "is no parameter of main.bicep, or its value is no ${VARIABLE=default}")
            continue
        if found[2] is None:
            always.add(found[1])
        default = main.parameters[name].get("default")
        text = {True: "true", False: "false"}.get(default, default) if isinstance(default, bool) else default
        if found[2] is not None and str(text) != found[2]:
            tell(name, f"is {found[2]!r} unless set, and {text!r} in main.bicep")
        if found[2] is None and default is not None:
            tell(name, "has a default in main.bicep, but not here")
    for name, declared in main.parameters.items():
        if declared.get("default") is None and name not in given:
            tell(name, "has no default and is not given")
    for path in sorted(ROOT.glob("infra/main.*.parameters.json")):
        for name, setting in json.loads(path.read_text())["parameters"].items():
            allowed = main.allowed(name) if name in main.parameters else None
            if name not in given:
                report(f"infra/{path.name}")(name, "is not in main.parameters.json")
            elif allowed and setting["value"] not in allowed:
                report(f"infra/{path.name}")(name, f"is {setting['value']!r}, which is none of {allowed}")
    return always


def scripts(main, always):
    """What the scripts read from azd's environment, and can not do without, is always there."""
    known = set(main.outputs) | always | OF_AZD | SWITCHES
    settings = rowgate_variables()
    for path in sorted((ROOT / "scripts").iterdir()):
        text = path.read_text()
        if not text.startswith("#!/usr/bin/env bash") or "az" not in text:
            continue
        own = set(re.findall(r"\b([A-Z][A-Z0-9_]+)=", text)) | {"PATH", "HOME", "XDG_CACHE_HOME"}
        read = set(re.findall(r"\$\{?([A-Z][A-Z0-9_]+)(?![A-Z0-9_]|:-)", text)) | set(re.findall(r"azd env get-value (\w+)", text))
        for name in sorted(read - own - known):
            if not name.startswith("ROWGATE_"):
                report(f"scripts/{path.name}")(name, "is no output of main.bicep")
        if settings is not None:
            for name in sorted(set(re.findall(r"\b(ROWGATE_[A-Z_]*[A-Z])=", text)) - settings):
                report(f"scripts/{path.name}")(name, "is no variable of Rowgate's")


def rowgate_variables():
    """The variables that Rowgate reads, or None while it knows nothing of Key Vault."""
    found = set(re.findall(r'"(ROWGATE_[A-Z_]+)"', (ROOT / "src/config/variables.rs").read_text()))
    return found if "ROWGATE_KEY_VAULT" in found else None


def settings(files):
    known = rowgate_variables()
    if known is None:
        skipped.append("the names of ROWGATE_ settings: src/config/variables.rs has none for Azure yet")
        return
    for path, file in files.items():
        for name in sorted(set(re.findall(r"\bROWGATE_[A-Z_]+\b", file.text)) - known):
            report(path.relative_to(ROOT))(name, "is no variable of Rowgate's")


def beside(files):
    """What Bicep reads from elsewhere."""
    known = json.loads((ROOT / "infra/bicepconfig.json").read_text())["extensions"]
    for path, file in files.items():
        for name in re.findall(r"^extension (\w+)", file.text, re.M):
            if name not in known:
                report(path.relative_to(ROOT))(name, "is not in bicepconfig.json")
        for name in re.findall(r"load(?:Text|Json)Content\('([^']+)'\)", file.text):
            if not (path.parent / name).is_file():
                report(path.relative_to(ROOT))(name, "is not there")
            elif name.endswith(".json"):
                json.loads((path.parent / name).read_text())


def compile_bicep():
    compiler = shutil.which("bicep")
    if compiler is None:
        skipped.append("compiling: there is no bicep on the PATH")
        return
    for path in sorted((ROOT / "infra").rglob("*.bicep")):
        # Those two need a registry, for the types of Microsoft Graph.
        if path.name in ("entra-app.bicep", "main.bicep"):
            continue
        done = subprocess.run([compiler, "build", "--stdout", path], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            report(path.relative_to(ROOT))("bicep build", done.stderr.strip())


def main():
    if not (SCHEMAS / "bicep-types").is_dir():
        print(f"infra: skipped, because {SCHEMAS} is not there (ROWGATE_SCHEMAS says where it is)")
        return
    types = bicep_types.Types(SCHEMAS / "bicep-types")
    myself(types)
    skipped.clear()
    roles = json.loads((ROOT / "tests/infra/role-definitions.json").read_text())
    files = {}
    for path in sorted((ROOT / "infra").rglob("*.bicep")):
        file = one_file(path.read_text(), types, report(path.relative_to(ROOT)))
        if file is not None:
            files[path] = file
    for path, file in files.items():
        modules.modules(path, file, files, report(path.relative_to(ROOT)))
        modules.roles(path, file, roles, report(path.relative_to(ROOT)))
    function(schema("host.json", "host.schema.json"))
    hooks(schema("azure.yaml", "azure.yaml.schema.json"))
    top = files.get(ROOT / "infra/main.bicep")
    if top is not None:
        scripts(top, parameters(top))
    settings(files)
    beside(files)
    compile_bicep()
    for what in sorted(set(skipped)):
        print(f"infra: not checked: {what}")
    for problem in problems:
        print(problem)
    resources = sum(len(file.resources) for file in files.values())
    print(f"infra: {len(files)} files, {resources} resources, {len(broken.BROKEN) + len(broken.PAIRS) - 1} broken ones told apart, {len(problems)} problems")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
