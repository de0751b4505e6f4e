"""Writes what a build is made of as CycloneDX 1.6, from cargo's own metadata on standard input.

Usage: cargo metadata --format-version 1 --locked … | python3 scripts/bill_of_materials.py
"""

import json
import sys

metadata = json.load(sys.stdin)
packages = {package["id"]: package for package in metadata["packages"]}
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
root = metadata["resolve"]["root"]


def linked(package):
    return all("proc-macro" not in target["kind"] for target in package["targets"])


def shipped(node):
    """The dependencies that a program is linked with: not those of tests alone, of its build, or of the compiler."""
    kept = (dep for dep in node["deps"] if any(kind["kind"] is None for kind in dep["dep_kinds"]))
    return sorted(dep["pkg"] for dep in kept if linked(packages[dep["pkg"]]))


reached, todo = set(), [root]
while todo:
    one = todo.pop()
    if one not in reached:
        reached.add(one)
        todo.extend(shipped(nodes[one]))


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package):
    described = {"type": "library", "bom-ref": purl(package), "name": package["name"], "version": package["version"]}
    if package["license"]:
        described["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    return {**described, "purl": purl(package)}


inside = sorted((packages[one] for one in reached if one != root), key=purl)
bill = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
    "version": 1,
    "metadata": {"component": {**component(packages[root]), "type": "application"}},
    "components": [component(package) for package in inside],
    "dependencies": [
        {"ref": purl(packages[one]), "dependsOn": [purl(packages[dep]) for dep in shipped(nodes[one])]}
        for one in sorted(reached, key=lambda one: purl(packages[one]))
    ],
}
json.dump(bill, sys.stdout, indent=1)
print()
