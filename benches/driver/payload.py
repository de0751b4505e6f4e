"""(g) What a model reads: the size of the list of tools, of the schema of all tables and of answers, in bytes and in
tokens (o200k_base), beside the same rows as plain JSON objects."""

import json
import subprocess

from database import HEAD_OFFICE, QUERY
from server import Server

TABLES = [f"retail.{name}" for name in
          ("stores", "customers", "categories", "product_types", "products", "inventory", "orders", "order_items")]
HUNDRED = QUERY.replace("limit 20", "limit 100").replace("sold_on < '2024-04-01'", "sold_on < '2024-05-01'")


def compact(value):
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def count_tokens(program, texts):
    """Tokens of each text."""
    lines = "".join(json.dumps(text) + "\n" for text in texts)
    done = subprocess.run([program], input=lines, text=True, capture_output=True, check=True)
    return [int(line) for line in done.stdout.split()]


def plain_rows(structured):
    """The rows as they would stand in plain JSON: one object a row."""
    names = [column["name"] for column in structured["columns"]]
    return compact([dict(zip(names, row)) for row in structured["rows"]])


def measure(report, binary, tokens, database):
    """Deterministic: one call of each."""
    report.section("What a model reads")
    server = Server(binary, database)
    client = server.client()
    tools = client.request("tools/list", {})["tools"]
    whole = len(compact(tools).encode())
    # Icons are shown to people, and no model reads them.
    tools = compact([{name: value for name, value in tool.items() if name != "icons"} for tool in tools])
    schemas = client.call("get_multiple_table_schemas", {"table_names": TABLES})["content"][0]["text"]
    schemas = json.loads(schemas)["schemas"]
    few = client.call(server.tool, server.arguments())
    many = client.call(server.tool, server.arguments(HUNDRED))
    head_office = server.client(HEAD_OFFICE)
    everything = json.loads(
        head_office.call("get_multiple_table_schemas", {"table_names": TABLES})["content"][0]["text"])["schemas"]
    client.close()
    head_office.close()
    server.stop()
    assert many["structuredContent"]["row_count"] == 100, many["structuredContent"]["row_count"]
    texts = {
        "tools/list": tools,
        "schema of eight tables, Seattle": schemas,
        "schema of eight tables, head office": everything,
        "20 rows of 7 columns": few["content"][0]["text"],
        "100 rows of 7 columns": many["content"][0]["text"],
        "20 plain": plain_rows(few["structuredContent"]),
        "100 plain": plain_rows(many["structuredContent"]),
        "20 values": compact(few["structuredContent"]["rows"]),
        "100 values": compact(many["structuredContent"]["rows"]),
    }
    counted = dict(zip(texts, count_tokens(tokens, texts.values())))
    report.raw["texts"] = texts
    report.add("tools/list with icons, which no model reads", whole, "bytes")
    for name, text in texts.items():
        if name.endswith(("plain", "values")):
            continue
        rows = name.split()[0] if "rows" in name else None
        plain = texts.get(f"{rows} plain")
        report.add(f"{name}", len(text.encode()), "bytes", *(("plain JSON rows", len(plain.encode())) if plain else ()))
        aim = {}
        if name.startswith("schema"):
            aim = {"aim": "≤ 1,200 tokens", "met": counted[name] <= 1200}
        if rows == "20":
            aim = {"aim": "≤ 0.6 × plain rows", "met": counted[name] <= 0.6 * counted["20 plain"]}
        report.add("  tokens", counted[name], "tokens",
                   *(("plain JSON rows", counted[f"{rows} plain"]) if plain else ()), **aim)
        if plain:
            report.add("  tokens of the values alone", counted[f"{rows} values"], "tokens", "plain JSON rows",
                       counted[f"{rows} plain"])
