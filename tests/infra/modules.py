"""What Bicep files say to each other, and to the scripts: names, modules and their parameters, roles."""

import re

from bicep import Quoted, choices, unwrap, walk

# Functions without brackets do not exist, but these stand where a name can.
WORDS = {"true", "false", "null"}
GUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")


def names(file, report):
    """Every name that is used is declared, and the other way round."""
    used = set()
    declared = set(file.names) | WORDS
    for kind in (file.variables, file.outputs):
        for name, value in kind.items():
            used |= _uses(name, value, declared, report)
    for name, parameter in file.parameters.items():
        used |= _uses(name, parameter.get("default"), declared, report)
    for kind in (file.resources, file.modules):
        for name, found in kind.items():
            config, made = unwrap(found["config"])
            outer = found["config"] if config is not found["config"] else None
            used |= _uses(name, config, declared | made, report)
            used |= _uses(name, outer, declared | made, report) if outer else set()
    for name in sorted((set(file.parameters) | set(file.variables)) - used):
        report(name, "is declared, but not used")


def _uses(where, value, declared, report):
    used = {link[0] for link in walk(value)}
    for name in sorted(used - declared):
        report(where, f"{name} is not declared")
    return used


def modules(path, file, files, report):
    """Each module has the parameters that it is given, is given those it needs, and has the outputs that are used."""
    for name, found in file.modules.items():
        target = (path.parent / found["detail"]["path"]).resolve()
        if target not in files:
            report(name, f"there is no {found['detail']['path']}")
            continue
        module = files[target]
        config, _ = unwrap(found["config"])
        given = config.get("params", {})
        for parameter, value in given.items():
            if parameter not in module.parameters:
                report(name, f"{target.name} has no parameter {parameter}")
                continue
            _fits(name, parameter, module, value, report)
        for parameter, declared in module.parameters.items():
            if declared.get("default") is None and parameter not in given:
                report(name, f"{target.name} needs the parameter {parameter}")
    _outputs(path, file, files, report)


def _fits(where, parameter, module, value, report):
    allowed, wanted = module.allowed(parameter), module.parameters[parameter]["type"]
    kinds = {"string": Quoted, "int": int, "bool": bool, "array": list, "object": dict}
    for choice in choices(value):
        if isinstance(choice, Quoted) and choice.is_literal and allowed and choice not in allowed:
            report(where, f"{parameter} is '{choice}', which is none of {', '.join(map(str, allowed))}")
        plain = isinstance(choice, (Quoted, bool, int, list))
        if plain and (not isinstance(choice, kinds[wanted]) or (wanted == "int" and isinstance(choice, bool))):
            report(where, f"{parameter} is {choice!r}, but should be of type {wanted}")


def _outputs(path, file, files, report):
    values = [*file.variables.values(), *file.outputs.values()]
    values += [unwrap(found["config"])[0] for found in [*file.modules.values(), *file.resources.values()]]
    for link in walk(values):
        if len(link) > 2 and link[0] in file.modules and link[1] == "outputs":
            target = (path.parent / file.modules[link[0]]["detail"]["path"]).resolve()
            if target in files and link[2] not in files[target].outputs:
                report(link[0], f"{target.name} has no output {link[2]}")


def roles(path, file, known, report):
    """Roles are given in roles.bicep only; ids, names and comments agree with the list."""
    given = [name for name, found in file.resources.items() if found["type"].endswith("/roleAssignments")]
    if path.name != "roles.bicep":
        for name in given:
            report(name, "gives a role, which belongs into roles.bicep")
        return
    for name, value in file.variables.items():
        for guid in GUID.findall(str(value)):
            if guid not in known:
                report(name, f"{guid} is not in role-definitions.json")
            elif name.lower() != known[guid].replace(" ", "").lower():
                report(name, f"holds the id of {known[guid]}")
    by_variable = {role.replace(" ", "").lower(): role for role in known.values()}
    for name in given:
        config, _ = unwrap(file.resources[name]["config"])
        used = [link[0] for link in walk(config.get("properties", {}).get("roleDefinitionId"))]
        if not used:
            continue
        variable = used[-1]
        comment = re.search(rf"((?:^//.*\n)+)resource {name} ", file.text, re.M)
        role = by_variable.get(variable.lower())
        if role is None or not comment or not comment[1].startswith(f"// {role}, for "):
            report(name, f"wants a comment that starts with '{role or variable}, for '")
        if variable not in {link[0] for link in walk(config.get("name"))}:
            report(name, f"has a name that is not made from {variable}")
