"""(a) From the start of the binary to its first answers, beside a bare program that connects and does the same."""

import json
import subprocess
import tempfile
import time

import processes
from report import in_turns, middle
from server import start_and_ask
from database import QUERY

LIST = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}).encode()
CALL = json.dumps({
    "jsonrpc": "2.0", "id": 1, "method": "tools/call",
    "params": {"name": "execute_sales_query", "arguments": {"postgresql_query": QUERY}},
}).encode()


def measure(report, binary, bare, database, rounds=15):
    """Interleaved, medians."""
    report.section("Start")
    listed, asked, limit = [], [], []
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(database.guarded())
        script.flush()
        for _ in range(rounds):
            limit.append(bare_milliseconds(bare, database, script.name))
            for body, into, mark in ((LIST, listed, b"inputSchema"), (CALL, asked, b'"row_count":20')):
                started = time.perf_counter()
                process, answer = start_and_ask(binary, database, body)
                into.append((time.perf_counter() - started) * 1e3)
                processes.stop(process)
                assert mark in answer, answer
    report.raw["start_ms"] = {"tools/list": listed, "first query": asked, "bare": limit}
    report.add("start → first tools/list", middle(listed), "ms")
    ratio = in_turns(asked, limit)
    report.add("start → first query, empty pool", middle(asked), "ms", "bare program", middle(limit), ratio,
               aim="≤ 2 × the bare program", met=ratio[0] <= 2)


def bare_milliseconds(bare, database, script):
    """From its start until it says that it has the rows."""
    started = time.perf_counter()
    process = processes.start([bare, database.app_url, script], stdout=subprocess.PIPE)
    said = process.stdout.readline()
    taken = (time.perf_counter() - started) * 1e3
    processes.stop(process)
    assert int(said.split()[0]) >= 20, said
    return taken
