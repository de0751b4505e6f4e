"""Measures Rowgate beside its limits, all in one run. scripts/bench builds what is measured and calls this."""

import argparse
import os
import time

import aggregate
import calls
import filling
import growth
import latency
import load
import obstacles
import payload
import peers
import processes
import searching
import sizes
import start
import telemetry
from database import Database
from report import Report

PARTS = ("start", "calls", "latency", "aggregate", "payload", "telemetry", "filling", "sizes")


def arguments():
    """What scripts/bench passes on."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--binary", default="target/release/rowgate", help="the rowgate that is measured")
    parser.add_argument("--dev-binary", default="target/debug/rowgate", help="a rowgate with `dev` in it, for the database")
    parser.add_argument("--beside", default="target/beside/release", help="the folder of the programs of benches/beside")
    parser.add_argument("--scale", default="1", help="size of the sample")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas; growth is one more")
    parser.add_argument("--rounds", type=int, default=9, help="rounds of each load, of which the median counts")
    parser.add_argument("--seconds", type=int, default=2, help="how long each load lasts")
    parser.add_argument("--peers", action="store_true", help="other MCP servers from npm and PyPI in the same run")
    parser.add_argument("--search", action="store_true", help="search by meaning too, up to 100,000 products: minutes more")
    parser.add_argument("--json", default="target/bench.json", help="where the figures go")
    return parser.parse_args()


def main():
    """The run."""
    given = arguments()
    parts = [part for part in given.only.split(",") if part]
    if unknown := set(parts) - {*PARTS, "growth"}:
        raise SystemExit(f"no such part: {', '.join(unknown)}")
    load.require_tools()
    processes.stop_all_at_exit()
    started = time.monotonic()
    report = Report()
    database = Database(given.dev_binary, given.scale)
    bare, tokens = os.path.join(given.beside, "bare"), os.path.join(given.beside, "tokens")
    measures = {
        "start": lambda: start.measure(report, given.binary, bare, database),
        "calls": lambda: calls.measure(report, given.binary, database, given.rounds, given.seconds),
        "latency": lambda: latency.measure(report, given.binary, bare, database),
        "aggregate": lambda: aggregate.measure(report, given.binary, database),
        "payload": lambda: payload.measure(report, given.binary, tokens, database),
        "telemetry": lambda: telemetry.measure(report, given.binary, database, given.rounds, given.seconds),
        "filling": lambda: filling.measure(report, given.binary, given.dev_binary, database, given.scale),
        "growth": lambda: growth.measure(report, given.binary, database),
        "sizes": lambda: sizes.measure(report, given.binary),
    }
    try:
        for part in parts:
            measures[part]()
        if given.peers:
            peers.measure(report, given.binary, database, given.rounds, given.seconds)
        if given.search:
            searching.measure(report)
        obstacles.explain(report)
    finally:
        # What was measured until something failed is kept as well.
        database.stop()
        os.makedirs(os.path.dirname(given.json) or ".", exist_ok=True)
        taken = round(time.monotonic() - started)
        report.write(given.json, {"binary": given.binary, "scale": given.scale, "seconds": taken})
    print(f"\n{report.table()}")
    missed = [line["of"] for line in report.aims() if not line["met"]]
    print(f"{len(report.aims()) - len(missed)} of {len(report.aims())} aims met; figures in {given.json}")
    for what in missed:
        print(f"not met: {what}")


if __name__ == "__main__":
    main()
