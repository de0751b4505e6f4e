"""(i) How fast the sample is loaded and its texts are turned into vectors by the local model."""

import re

import processes


def measure(report, binary, dev_binary, database, scale):
    """Into a database of its own on the same server. `dev_binary` has the local model in it."""
    report.section("Filling a database")
    database.psql("-c", "drop database if exists filled", "-c", "create database filled")
    url = database.superuser_url.replace("/zava", "/filled")
    processes.run(["psql", "-Xq", url, "-c", "create extension vector"])
    environment = {"ROWGATE_ADMIN_DATABASE_URL": url, "ROWGATE_CLAIM_KEYS": database.claim_key}
    processes.run([binary, "migrate"], environment)
    said = processes.run([binary, "seed", "--scale", scale], environment)
    rows, seconds = re.search(r"(\d+) rows in ([\d.]+) s", said).groups()
    report.add("seeding, rows a second", int(rows) / max(float(seconds), 0.05), "/s")
    said = processes.run([dev_binary, "embed"], {**environment, "ROWGATE_EMBEDDER": "local"})
    rows, tokens, seconds = re.search(r"(\d+) rows embedded .*?(\d+) tokens, ([\d.]+) s", said).groups()
    report.add("embedding, texts a second", int(rows) / float(seconds), "/s")
    report.add("embedding, tokens a second", int(tokens) / float(seconds), "/s")
    database.psql("-c", "drop database filled")
