"""Rowgate as it is served: the release binary, with the environment that a deployment gives it."""

import json
import subprocess
import tempfile
from pathlib import Path

import mcp
import processes
from database import QUERY, SEATTLE


def environment(database, pool, **more):
    """What `serve` is configured with. One caller never gets the last connection, so the pool has one more."""
    return {
        "ROWGATE_DATABASE_URL": database.app_url,
        "ROWGATE_CLAIM_KEYS": database.claim_key,
        "ROWGATE_IDENTITY": "trusted-header",
        "FUNCTIONS_CUSTOMHANDLER_PORT": "0",
        "ROWGATE_POOL_SIZE": str(pool + 1),
        "ROWGATE_CALLS_PER_CALLER": "256",
        # As deployed, with all tools; nobody answers there, and nothing that is measured asks.
        "ROWGATE_EMBEDDER": "azure-openai",
        "ROWGATE_OPENAI_ENDPOINT": "http://127.0.0.1:9",
        **more,
    }


class Server:
    """A running `rowgate serve`. `pool`: connections that one caller can use."""

    name, tool, path = "Rowgate", "execute_sales_query", "/mcp"

    def __init__(self, binary, database, pool=16, wrapper=(), **more):
        self.database = database
        self.log = tempfile.NamedTemporaryFile(prefix="rowgate-bench-log-")
        self.process = processes.start(
            [*wrapper, binary, "serve"], environment(database, pool, **more), stdout=self.log, stderr=self.log
        )
        listening = lambda: self._address()
        self.address = processes.wait_for(listening, "listening", self.process, self.log.name, every=0.005)
        self.headers = {"x-rls-user-id": SEATTLE}

    def _address(self):
        for line in Path(self.log.name).read_text().splitlines():
            if line.startswith("{") and "address" in (said := json.loads(line)):
                host, _, port = said["address"].rpartition(":")
                return host, int(port)
        return None

    @property
    def url(self):
        """Where it answers."""
        return "http://{}:{}{}".format(*self.address, self.path)

    def client(self, caller=SEATTLE):
        """A client of one caller."""
        return mcp.Client(self.address, self.path, {"x-rls-user-id": caller})

    def arguments(self, sql=QUERY):
        """What the tool is called with."""
        return {"postgresql_query": sql}

    def pids(self):
        """Its processes."""
        return [self.process.pid]

    def memory(self):
        """Resident MB."""
        return processes.memory(self.pids())

    def stop(self):
        """Ends it."""
        processes.stop(self.process)
        self.log.close()


def start_and_ask(binary, database, body):
    """Starts a server and asks one thing as soon as it listens; the process, once the answer is there."""
    process = processes.start([binary, "serve"], environment(database, 4), stdout=subprocess.PIPE)
    host, _, port = json.loads(process.stdout.readline())["address"].rpartition(":")
    client = mcp.Client((host, int(port)), "/mcp", {"x-rls-user-id": SEATTLE})
    answer = client.exchange(body)
    client.close()
    return process, answer
