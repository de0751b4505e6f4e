"""Compares Bicep resources with the types that Azure publishes (bicep-types): names, versions, properties, literals."""

import json

from bicep import Object, Quoted, choices, unwrap

REQUIRED, READ_ONLY = 1, 2
# What Bicep itself puts beside a resource's own properties.
OF_BICEP = {"parent", "scope", "dependsOn"}
PARAMETER_TYPES = {"StringType": "string", "IntegerType": "int", "BooleanType": "bool", "ArrayType": "array", "ObjectType": "object"}


class Types:
    """All resource types in a folder of `<provider>/<version>/*.json`."""

    def __init__(self, folder):
        self.files = [json.loads(path.read_text()) for path in sorted(folder.glob("*/*/*.json"))]
        self.resources = {}
        for file in self.files:
            for entry in file if isinstance(file, list) else []:
                if entry["$type"] == "ResourceType":
                    self.resources[entry["name"].lower()] = (entry, file)

    def knows_provider(self, name):
        provider = name.split("/")[0].lower() + "/"
        return any(known.startswith(provider) for known in self.resources)

    def versions(self, name):
        return sorted(known.split("@")[1] for known in self.resources if known.split("@")[0] == name.lower())


class Check:
    """Checks the resources of one file. `report(where, what)` is told each mistake."""

    def __init__(self, types, file, report):
        self.types, self.file, self.report = types, file, report

    def resource(self, name, declared):
        full = f"{declared['type']}@{declared['api_version']}"
        config, _ = unwrap(declared["config"])
        self._parent(name, declared["type"], config)
        if full.lower() not in self.types.resources:
            versions = self.types.versions(declared["type"])
            known = f"has the versions {', '.join(versions)}" if versions else "is not a type"
            return self.report(name, f"{declared['type']} {known}, not {declared['api_version']}")
        entry, types = self.types.resources[full.lower()]
        if entry["name"] != full:
            self.report(name, f"is written {entry['name']}")
        if declared["existing"]:
            for extra in set(config) - OF_BICEP - {"name"}:
                self.report(name, f"{extra} is set on a resource that is there already")
            if "name" not in config:
                self.report(name, "needs a name")
            return None
        own = Object((key, value) for key, value in config.items() if key not in OF_BICEP)
        # Types of the whole world, such as DNS zones, want 'global', though their properties do not say so.
        if "location" in _at(types, entry["body"]).get("properties", {}) and "location" not in config:
            self.report(name, "needs location")
        return self.value(types, entry["body"], own, name)

    def _parent(self, name, kind, config):
        segments = kind.split("/")
        if "parent" in config:
            chosen = config["parent"]
            parent = str(chosen) if isinstance(chosen, str) else str(chosen["operator"]["operands"]["operand_1"])
            found = self.file.resources.get(parent)
            if found and found["type"] != "/".join(segments[:-1]):
                self.report(name, f"{kind} can not be a child of {found['type']}")
        elif len(segments) > 2 and str(config.get("name", "")).count("/") != len(segments) - 2:
            self.report(name, f"{kind} has no parent")

    def value(self, types, reference, value, where, complete=True):
        wanted = _at(types, reference)
        for choice in choices(value):
            self._choice(types, wanted, choice, where, complete)

    def _choice(self, types, wanted, value, where, complete):
        kind = wanted["$type"]
        if value is None or kind == "AnyType":
            return
        if isinstance(value, Object) and kind in ("ObjectType", "DiscriminatedObjectType"):
            return self._object(types, wanted, value, where, complete)
        if isinstance(value, dict) and not isinstance(value, Object):
            return self._expression(types, wanted, value, where)
        if isinstance(value, str) and not isinstance(value, Quoted):
            return self._name(types, wanted, value, where)
        if isinstance(value, list):
            if kind != "ArrayType":
                return self.report(where, "is a list, but should not be one")
            for number, item in enumerate(value):
                self.value(types, wanted["itemType"], item, f"{where}[{number}]")
            return None
        return self._literal(types, wanted, value, where)

    def _literal(self, types, wanted, value, where):
        is_text = isinstance(value, Quoted)
        literals, kinds = _members(types, wanted)
        if is_text and literals:
            if value.is_literal and str(value) not in literals:
                self.report(where, f"is '{value}', which is none of {', '.join(literals)}")
            return
        fits = {
            "StringType": is_text,
            "IntegerType": isinstance(value, int) and not isinstance(value, bool),
            "BooleanType": isinstance(value, bool),
        }
        if not any(fits.get(kind) for kind in kinds):
            self.report(where, f"is {value!r}, but should be of {' or '.join(kinds) or 'another type'}")

    def _name(self, types, wanted, name, where):
        """A variable stands for its value; a parameter for its type and what it may be."""
        if name in self.file.variables:
            return self._deeper(types, wanted, self.file.variables[name], where)
        if name not in self.file.parameters:
            return None
        literals, kinds = _members(types, wanted)
        expected = {PARAMETER_TYPES.get(kind) for kind in kinds} | ({"string"} if literals else set())
        declared = self.file.parameters[name]["type"]
        if isinstance(declared, str) and expected and declared not in expected:
            self.report(where, f"is the parameter {name} of type {declared}, but should be {' or '.join(filter(None, expected))}")
        for allowed in self.file.allowed(name) or []:
            self._choice(types, wanted, allowed, f"{where} ({name})", True)
        return None

    def _deeper(self, types, wanted, value, where):
        for choice in choices(value):
            self._choice(types, wanted, choice, where, True)

    def _expression(self, types, wanted, value, where):
        if "loop_type" in value and wanted["$type"] == "ArrayType":
            return self.value(types, wanted["itemType"], value["config"], f"{where}[]")
        if value.get("function", {}).get("type") == "union" and wanted["$type"] == "ObjectType":
            for part in value["function"].get("parameters", {}).values():
                for choice in choices(part):
                    self._choice(types, wanted, choice, where, False)
        return None

    def _object(self, types, wanted, value, where, complete):
        properties, more = dict(wanted.get("properties", {})), wanted.get("additionalProperties")
        if wanted["$type"] == "DiscriminatedObjectType":
            properties = dict(wanted["baseProperties"])
            chosen = value.get(wanted["discriminator"])
            if str(chosen) not in wanted["elements"]:
                return self.report(where, f"{wanted['discriminator']} is '{chosen}', which is none of {', '.join(wanted['elements'])}")
            element = _at(types, wanted["elements"][str(chosen)])
            properties |= element["properties"]
            more = element.get("additionalProperties")
        for key, item in value.items():
            found = properties.get(key)
            # Anything may stand beside named properties, says AnyType; a slip of the pen does, too.
            if found is None and more is not None and not (properties and _at(types, more)["$type"] == "AnyType"):
                self.value(types, more, item, f"{where}.{key}")
            elif found is None:
                self.report(where, f"has no property {key}")
            elif found["flags"] & READ_ONLY:
                self.report(where, f"{key} can be read only")
            else:
                self.value(types, found["type"], item, f"{where}.{key}")
        for key, found in properties.items():
            if complete and found["flags"] & REQUIRED and not found["flags"] & READ_ONLY and key not in value:
                self.report(where, f"needs {key}")
        return None


def _at(types, reference):
    return types[int(reference["$ref"].removeprefix("#/"))]


def _members(types, wanted):
    """The literals that a type names, and the kinds of value it takes."""
    if wanted["$type"] == "UnionType":
        members = [_at(types, element) for element in wanted["elements"]]
    else:
        members = [wanted]
    literals = [member["value"] for member in members if member["$type"] == "StringLiteralType"]
    return literals, [member["$type"] for member in members if member["$type"] != "StringLiteralType"]
