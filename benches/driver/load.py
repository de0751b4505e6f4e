"""Load: wrk for what speaks HTTP, pgbench for PostgreSQL itself. Both ask again as soon as they are answered."""

import json
import re
import shutil
import tempfile
import time
from pathlib import Path

import processes

# Seconds until the sessions of pgbench have their caches, whose filling is not measured.
WARMING = 1

WRK = """\
wrk.method = "POST"
wrk.body = %s
%s
done = function(summary, latency, requests)
    local e = summary.errors
    io.write(string.format('\\nRESULT {"calls": %%d, "seconds": %%.6f, "bytes": %%d, "failed": %%d, "p50": %%.4f, "p99": %%.4f}\\n',
        summary.requests, summary.duration / 1e6, summary.bytes, e.connect + e.read + e.write + e.status + e.timeout,
        latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""


def require_tools():
    """Says what is missing, and how to have it."""
    missing = [tool for tool in ("wrk", "pgbench", "psql") if not shutil.which(tool)]
    if missing:
        raise SystemExit(
            f"missing: {', '.join(missing)}. Debian and Ubuntu: apt-get install wrk postgresql-contrib; "
            "macOS: brew install wrk libpq postgresql"
        )


def wrk(server, body, headers, clients, seconds):
    """Calls a server with one body, again and again. `server.database`, if it is there: whose CPU to read as well."""
    lua = "\n".join(f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items())
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(WRK % (_lua(body), lua))
        script.flush()
        before, database = processes.cpu_and_kernel(server.pids()), server.database.cpu() if server.database else 0
        command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "30s", "-s", script.name, server.url]
        said = processes.run(command)
        outside, kernel = (now - then for now, then in zip(processes.cpu_and_kernel(server.pids()), before))
        if server.database:
            database = server.database.cpu() - database
    line = next(line for line in said.splitlines() if line.startswith("RESULT "))
    result = json.loads(line.removeprefix("RESULT "))
    calls = max(result["calls"], 1)
    return {
        "calls_per_second": result["calls"] / result["seconds"],
        "p50_ms": result["p50"],
        "p99_ms": result["p99"],
        "cpu_ms_per_call": (outside + kernel) / calls * 1e3,
        "kernel_ms_per_call": kernel / calls * 1e3,
        "postgres_cpu_ms_per_call": database / calls * 1e3,
        "bytes_per_call": result["bytes"] / calls,
        "failed": result["failed"],
    }


def _lua(body):
    """A Lua string of these bytes."""
    return '"' + "".join(f"\\{byte:03d}" for byte in body) + '"'


def pgbench(database, sql, clients, seconds):
    """Runs a text of SQL, sent as one message, over as many connections as there are clients."""
    with tempfile.TemporaryDirectory(prefix="rowgate-bench-") as folder:
        script = Path(folder) / "script.sql"
        # `\\;` keeps the statements in one message.
        one_message = re.sub(r";\s*", r"\; ", sql.strip().rstrip(";")).replace("\n", " ")
        script.write_text(f"{one_message};\n")
        warming = WARMING + clients // 16
        process = processes.start([
            "pgbench", "-n", "-M", "simple", "-c", clients, "-j", 1, "-T", warming + seconds, "-f", script,
            "-l", "--log-prefix", f"{folder}/log", database.app_url,
        ])
        time.sleep(warming)
        begun, before = time.time(), database.cpu()
        if process.wait(warming + seconds + 60):
            raise SystemExit("pgbench failed")
        used = database.cpu() - before
        processes.stop(process)
        lines = [line.split() for log in Path(folder).glob("log.*") for line in log.read_text().splitlines()]
    # The third field is how long a transaction took in microseconds, the fifth and sixth are when it ended.
    lines = [(int(line[2]) / 1e3, int(line[4]) + int(line[5]) / 1e6) for line in lines]
    taken = sorted(milliseconds for milliseconds, end in lines if end >= begun)
    ends = [end for _, end in lines if end >= begun]
    return {
        "calls_per_second": len(taken) / (max(ends) - begun),
        "p50_ms": taken[len(taken) // 2],
        "p99_ms": taken[int(len(taken) * 0.99)],
        "postgres_cpu_ms_per_call": used / len(taken) * 1e3,
    }
