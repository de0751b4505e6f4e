"""Reads Bicep with pycep, and keeps what pycep's JSON loses: which texts stood in quotes, which braces were objects."""

import re
from functools import cache

from pycep import BicepParser
from pycep.transformer import BicepToJson

PARSER = BicepParser(cache=False)


class Quoted(str):
    """A text in quotes. Everything else that is a str is a name."""

    @property
    def is_literal(self):
        return "${" not in self


class Object(dict):
    """Braces of the source. Every other dict is pycep's picture of an expression."""


class Mistake(Exception):
    pass


class _Reader(BicepToJson):
    def __init__(self):
        super().__init__(add_line_numbers=False)

    def string(self, arg):
        text = super().string(arg)
        return Quoted(text) if str(arg[0]).startswith("'") else text

    def multi_line_string(self, arg):
        return Quoted(super().multi_line_string(arg))

    def object(self, args):
        keys = [key.strip("'") for key, _ in args]
        for key in keys:
            if keys.count(key) > 1:
                raise Mistake(f"{key} stands twice in one object")
        return Object(zip(keys, (value for _, value in args)))


class File:
    """One Bicep file: what it declares, by name."""

    def __init__(self, text):
        try:
            tree = PARSER._create_tree(text=text, file_path=None)
            read = _Reader().transform(tree)
        except Mistake:
            raise
        except Exception as error:
            inner = getattr(error, "orig_exc", None)
            raise inner if isinstance(inner, Mistake) else Mistake(f"does not parse: {str(error).splitlines()[0]}") from error
        self.text = text
        self.scope = read["globals"]["scope"]["value"]
        self.parameters = read.get("parameters", {})
        self.variables = {name: found["value"] for name, found in read.get("variables", {}).items()}
        self.outputs = {name: found["value"] for name, found in read.get("outputs", {}).items()}
        self.resources = read.get("resources", {})
        self.modules = read.get("modules", {})
        # pycep drops what it does not understand; a declaration that is not in its answer was never checked.
        for kind, found in (
            ("param", self.parameters), ("var", self.variables), ("output", self.outputs),
            ("resource", self.resources), ("module", self.modules),
        ):
            declared = re.findall(rf"^[ \t]*{kind} (\w+)\b(?=.*(?:=|$))", text, re.M)
            for name in set(declared) - set(found):
                raise Mistake(f"{kind} {name} was not understood (nested, or stands twice)")
            if len(declared) != len(found):
                raise Mistake(f"{len(declared)} times {kind}, but {len(found)} understood")

    @property
    def names(self):
        return {**self.parameters, **self.variables, **self.resources, **self.modules}

    def allowed(self, name):
        """The values that a parameter may have, or None where any."""
        for decorator in self.parameters[name]["decorators"]:
            if decorator["type"] == "allowed":
                return decorator["argument"]
        return None


def unwrap(config):
    """The object of a declaration, without its loop and its condition; and the names that its loop makes."""
    made = set()
    while isinstance(config, dict) and not isinstance(config, Object) and "config" in config:
        detail = config.get("loop_type", {}).get("detail", {})
        made |= {str(value) for key, value in detail.items() if key.endswith("_name") and isinstance(value, str)}
        config = config["config"]
    return config, made


def choices(value):
    """The values that an expression can have, as far as the text says: both sides of every `? :` in it."""
    if isinstance(value, Object) or not isinstance(value, dict) or "operator" not in value:
        return [value]
    operator = value["operator"]
    if operator["type"] == "conditional":
        return choices(operator["operands"]["true_value"]) + choices(operator["operands"]["false_value"])
    # pycep binds `a && b ? c : d` as `a && (b ? c : d)`.
    inner = [operand for operand in operator["operands"].values() if is_conditional(operand)]
    return [choice for operand in inner for choice in choices(operand)] or [value]


def is_conditional(value):
    return isinstance(value, dict) and not isinstance(value, Object) and value.get("operator", {}).get("type") == "conditional"


def chain(value):
    """`a.b.c` as [a, b, c], whichever way it was bound; `[…]` is left out."""
    if isinstance(value, dict) and not isinstance(value, Object) and "operator" in value:
        operands = value["operator"]["operands"]
        if value["operator"]["type"] == "property_accessor":
            return chain(operands["operand_1"]) + chain(operands["operand_2"])
        if value["operator"]["type"] == "index_accessor":
            return chain(operands["operand_1"])
    return [value]


@cache
def interpolated(text):
    """The expressions in `${…}`."""
    found = []
    for inner in re.findall(r"\$\{((?:[^{}']|'[^']*')*)\}", text):
        found.append(File(f"var x = {inner}\n").variables["x"])
    return found


def walk(value):
    """Every name, and every chain of names, that an expression uses."""
    if isinstance(value, Quoted):
        for inner in interpolated(str(value)):
            yield from walk(inner)
    elif isinstance(value, str):
        yield (value.rstrip("!"),)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from walk(item)
    elif isinstance(value, Object):
        for key, item in value.items():
            yield from walk(Quoted(key) if "${" in key else None)
            yield from walk(item)
    elif isinstance(value, dict):
        yield from _walk_expression(value)


def _walk_expression(value):
    operator = value.get("operator", {})
    if operator.get("type") == "property_accessor":
        links = chain(value)
        if isinstance(links[0], str) and not isinstance(links[0], Quoted):
            yield tuple(link.rstrip("!") for link in links if isinstance(link, str))
        else:
            yield from walk(links[0])
        yield from (used for link in links[1:] for used in _after_property(link))
        yield from _indices(value)
    elif "loop_type" in value:
        _, made = unwrap(value)
        for key, item in value["loop_type"]["detail"].items():
            if not isinstance(item, str) or key == "array_name":
                yield from walk(item)
        yield from (used for used in walk(value["config"]) if used[0] not in made)
    elif value.get("type") == "lambda_expression":
        return
    elif "function" in value:
        yield from walk(list(value["function"].get("parameters", {}).values()))
    elif operator:
        yield from walk(list(operator["operands"].values()))
    else:
        yield from walk([item for key, item in value.items() if key in ("condition", "config")])


def _after_property(value):
    """pycep binds `a.b - c` as `a.(b - c)`: what stands behind the property."""
    if isinstance(value, dict) and not isinstance(value, Object) and "operator" in value:
        first, *others = value["operator"]["operands"].values()
        yield from _after_property(first)
        yield from walk(others)


def _indices(value):
    if isinstance(value, dict) and not isinstance(value, Object) and "operator" in value:
        operands = value["operator"]["operands"]
        if value["operator"]["type"] == "index_accessor":
            yield from walk(operands["operand_2"])
        for operand in operands.values():
            yield from _indices(operand)
