"""(b) Calls a second and their latency, (c) CPU a call, (d) memory: beside pgbench with the same guarded transaction."""

import json

import load
from database import QUERY
from report import in_turns, middle, take_turns
from server import Server

CLIENTS = (1, 16, 64)


def body_of(server, sql=QUERY):
    """The request that is sent again and again; asked for once before, so that what is measured is known to be right."""
    client = server.client()
    result = client.call(server.tool, server.arguments(sql))
    client.close()
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": {"name": server.tool, "arguments": server.arguments(sql)}}
    return json.dumps(body).encode(), result


def request_headers(server):
    """What wrk sends with it."""
    return {"content-type": "application/json", "accept": "application/json, text/event-stream", **server.headers}


def under_load(server, clients, seconds, body):
    """One run of wrk; every answer has to be there and of the size of the others."""
    result = load.wrk(server, body, request_headers(server), clients, seconds)
    if result["failed"]:
        raise SystemExit(f"{server.name}: {result['failed']} calls of {clients} clients failed")
    return result


def warmed(server, clients, seconds, body):
    """The same, once PostgreSQL's sessions are back in the processors' caches, as for pgbench."""
    under_load(server, clients, load.WARMING, body)
    return under_load(server, clients, seconds, body)


def measure(report, binary, database, rounds=3, seconds=3):
    """Rowgate and pgbench in turns, at each number of clients; then memory at its worst."""
    report.section("Calls")
    sql = database.guarded()
    memory = {"at rest": [], "after load": []}
    for clients in CLIENTS:
        server = Server(binary, database, pool=clients)
        memory["at rest"].append(server.memory()["now"])
        body, _result = body_of(server)
        runs = take_turns(rounds if clients == 16 else max(rounds // 2, 2), {
            "rowgate": lambda: warmed(server, clients, seconds, body),
            "pgbench": lambda: load.pgbench(database, sql, clients, seconds),
        })
        if clients == 16:
            memory["after load"].append(server.memory()["now"])
        server.stop()
        report.raw[f"calls, {clients} clients"] = runs
        tell(report, clients, runs["rowgate"], runs["pgbench"])
    report.section("Memory")
    report.raw["memory_mb"] = memory
    report.add("at rest, before the first call", middle(memory["at rest"]), "MB", aim="≤ 12 MB",
               met=middle(memory["at rest"]) <= 12)
    report.add("after load, 16 clients", middle(memory["after load"]), "MB", aim="≤ 16 MB",
               met=middle(memory["after load"]) <= 16)
    worst_memory(report, binary, database)


def tell(report, clients, ours, limit):
    """What the rounds at one number of clients gave."""
    ratio = in_turns(ours, limit, "calls_per_second")
    aim = {"aim": "≥ 0.7 × pgbench", "met": ratio[0] >= 0.7} if clients == 16 else {}
    beside = f"pgbench, {clients} connections"
    report.add(f"calls a second, {clients} clients", middle(ours, "calls_per_second"), "/s", beside,
               middle(limit, "calls_per_second"), ratio, **aim)
    for name in ("p50_ms", "p99_ms"):
        report.add(f"  {name[:3]}", middle(ours, name), "ms", beside, middle(limit, name), in_turns(ours, limit, name))
    report.add("  server CPU a call", middle(ours, "cpu_ms_per_call"), "ms",
               **({"aim": "≤ 0.15 ms", "met": middle(ours, "cpu_ms_per_call") <= 0.15} if clients == 16 else {}))
    report.add("    of it in the kernel", middle(ours, "kernel_ms_per_call"), "ms")
    report.add("  PostgreSQL's CPU a call", middle(ours, "postgres_cpu_ms_per_call"), "ms", beside,
               middle(limit, "postgres_cpu_ms_per_call"), in_turns(ours, limit, "postgres_cpu_ms_per_call"))


def worst_memory(report, binary, database):
    """64 clients that all ask for the largest answers, with as many connections, then values of 50 MB."""
    server = Server(binary, database, pool=64)
    for sql in ("select n, repeat(chr(97 + n % 26), 250) from generate_series(1, 1000) n",
                "select repeat('x', 50000000)"):
        arguments = {**server.arguments(sql), "max_rows": 1000}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
                           "params": {"name": server.tool, "arguments": arguments}}).encode()
        load.wrk(server, body, request_headers(server), 64, 3)
    most = server.memory()["most"]
    server.stop()
    report.add("at worst: 64 clients, the largest answers", most, "MB", aim="≤ 64 MB", met=most <= 64)
