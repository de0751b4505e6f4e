"""(e) Round trips to the database, and what latency on the way there costs, beside the guarded transaction as one
message through the same delay."""

import copy
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import load
import processes
import start
from report import middle
from server import Server, start_and_ask

CALLS = 60


class Delayed:
    """The database behind a delay."""

    def __init__(self, database, milliseconds):
        command = [sys.executable, Path(__file__).with_name("delay.py"), database.port, milliseconds]
        self.process = processes.start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.database = copy.copy(database)
        self.database.port = int(self.process.stdout.readline())

    def round_trips(self):
        """How many there were so far."""
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def stop(self):
        """Ends the delay."""
        processes.stop(self.process)


def measure(report, binary, bare, database):
    """A warm call and a cold start, at 0, 5 and 20 ms."""
    report.section("Latency to the database")
    for milliseconds in (0, 5, 20):
        delayed = Delayed(database, milliseconds)
        behind = delayed.database
        server = Server(binary, behind, pool=1)
        client = server.client()
        for _ in range(5):
            client.call(server.tool, server.arguments())
        before, taken = delayed.round_trips(), []
        for _ in range(CALLS):
            started = time.perf_counter()
            client.call(server.tool, server.arguments())
            taken.append((time.perf_counter() - started) * 1e3)
        trips = (delayed.round_trips() - before) / CALLS
        client.close()
        server.stop()
        limit = load.pgbench(behind, database.guarded(), 1, 2)["p50_ms"]
        report.add(f"a call, {milliseconds} ms away", middle(taken), "ms", "pgbench, 1 connection", limit)
        report.add("  round trips", trips, "", aim="1", met=trips == 1)
        cold(report, binary, bare, database, delayed, milliseconds)
        delayed.stop()


def cold(report, binary, bare, database, delayed, milliseconds):
    """Start → first query, with the round trips that it takes."""
    ours, limit, trips, least = [], [], [], []
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(database.guarded())
        script.flush()
        for _ in range(5):
            before, started = delayed.round_trips(), time.perf_counter()
            process, _answer = start_and_ask(binary, delayed.database, start.CALL)
            ours.append((time.perf_counter() - started) * 1e3)
            processes.stop(process)
            between = delayed.round_trips()
            limit.append(start.bare_milliseconds(bare, delayed.database, script.name))
            trips.append(between - before)
            least.append(delayed.round_trips() - between)
    report.add(f"start → first query, {milliseconds} ms away", middle(ours), "ms", "bare program", middle(limit))
    report.add("  round trips", middle(trips), "", "bare program", middle(least))
