"""(h) Search by meaning: recall and latency at the sample's size, 10,000 and 100,000 products, beside comparing every row;
benches/search.rs measures it."""

import re
import subprocess

import processes

LINE = re.compile(r"^ {2}(?P<filter>.+?) +recall@10 (?P<recall>[\d.]+) +p50 (?P<p50>[\d.]+) ms, p99 (?P<p99>[\d.]+) ms"
                  r" +comparing every row: p50 (?P<limit>[\d.]+) ms, p99 (?P<worst>[\d.]+) ms")


def measure(report):
    """Builds and runs it; minutes, most of them for the index of 100,000 vectors."""
    report.section("Search by meaning")
    process = processes.start(["cargo", "bench", "--quiet", "--bench", "search"], stdout=subprocess.PIPE)
    size = ""
    for line in process.stdout:
        line = line.decode().rstrip()
        if found := re.match(r"(?:the sample's )?(\d+) rows", line):
            size = f"{int(found[1]):,}"
        elif found := re.match(r"embedding a query: p50 ([\d.]+) ms", line):
            report.add("the vector of a query", float(found[1]), "ms")
        elif found := re.match(r"stored, and the index made anew: ([\d.]+) s", line):
            report.add(f"{size} products: stored and indexed in", float(found[1]), "s")
        elif found := LINE.match(line):
            recall = float(found["recall"])
            report.add(f"{size} products, {found['filter']}: recall@10", recall, "", aim="≥ 0.98", met=recall >= 0.98)
            report.add("  p50, rows only", float(found["p50"]), "ms", "comparing every row", float(found["limit"]))
            report.add("  p99", float(found["p99"]), "ms", "comparing every row", float(found["worst"]))
    if process.wait():
        raise SystemExit("cargo bench --bench search failed")
    processes.stop(process)
