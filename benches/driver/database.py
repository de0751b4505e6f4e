"""The embedded PostgreSQL with the sample and the table that all servers are asked about, in a throw-away folder."""

import base64
import hashlib
import hmac
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import processes

SEATTLE = "f47ac10b-58cc-4372-a567-0e02b2c3d479"
HEAD_OFFICE = "00000000-0000-0000-0000-000000000000"

# Filters, sorts, and answers 20 rows of 7 columns out of 100,000. Seattle is store 1.
QUERY = (
    "select sale_id, sold_on, product, quantity, unit_price, discount, total from retail.sales "
    "where store_id = 1 and sold_on >= '2024-03-01' and sold_on < '2024-04-01' and quantity >= 2 "
    "order by total desc, sale_id limit 20"
)

# What Rowgate sends around a caller's statement (src/db/caller_tx.rs); {claim} and {sql} are filled in.
GUARDED = """\
begin read only;
select pg_catalog.set_config('statement_timeout', '30000', true), pg_catalog.set_config('search_path', '"retail"', true),
       pg_catalog.set_config('timezone', 'UTC', true), pg_catalog.set_config('datestyle', 'ISO, YMD', true),
       pg_catalog.set_config('intervalstyle', 'postgres', true), pg_catalog.set_config('extra_float_digits', '1', true),
       pg_catalog.set_config('bytea_output', 'hex', true), pg_catalog.set_config('standard_conforming_strings', 'on', true),
       rowgate.admit('{claim}'), pg_catalog.set_config('rowgate.claim', '{claim}', true),
       pg_catalog.set_config('role', 'rowgate_reader', true);
prepare rowgate_statement as select * from (
{sql}
) r limit 101;
execute rowgate_statement;
rollback; select pg_catalog.pg_advisory_unlock_all(); deallocate rowgate_statement;
"""


ADMIT = ("select rowgate.admit('{claim}'), set_config('rowgate.claim', '{claim}', true), "
         "set_config('role', 'rowgate_reader', true);")


class Database:
    """A running server. `binary`: a rowgate with `dev` in it; `scale`: the size of the sample."""

    def __init__(self, binary, scale):
        self.folder = Path(tempfile.mkdtemp(prefix="rowgate-bench-"))
        # PostgreSQL refuses to run as root; whoever it runs as instead has to get into its folder.
        self.folder.chmod(0o755)
        try:
            self._start(binary, scale)
        except BaseException:
            self.stop()
            raise

    def _start(self, binary, scale):
        log = self.folder / "dev.log"
        started = time.monotonic()
        with open(log, "w") as out:
            command = [binary, "dev", "--port", "0", "--scale", scale, "--data-dir", self.folder / "data"]
            self.process = processes.start(command, stdout=out, stderr=out)
        ready = lambda: re.search(r"PostgreSQL on 127\.0\.0\.1:(\d+)", log.read_text())
        self.port = int(processes.wait_for(ready, "rowgate dev's start", self.process, log, seconds=600).group(1))
        self.made_in = time.monotonic() - started
        secrets = (self.folder / "data" / "secrets").read_text().split("\n")
        self.superuser_password, _, self.app_password, self.claim_key = secrets[:4]
        children = processes.family(self.process.pid)
        self.postgres = next(pid for pid in children if _name(pid) == "postgres")
        self.make_sales("sales", 100_000)

    def make_sales(self, name, rows):
        """A table of so many sales."""
        self.psql("-v", f"name={name}", "-v", f"rows={rows}", "-f", Path(__file__).with_name("sales.sql"))

    def stop(self):
        """Ends the server and removes its folder."""
        if hasattr(self, "process"):
            processes.stop(self.process)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def app_url(self):
        """As the login role of the request path."""
        return f"postgres://rowgate_app:{self.app_password}@127.0.0.1:{self.port}/zava"

    @property
    def superuser_url(self):
        """As the superuser: for servers that guard nothing."""
        return f"postgres://postgres:{self.superuser_password}@127.0.0.1:{self.port}/zava"

    def psql(self, *arguments):
        """Runs psql as the superuser; what it printed."""
        return processes.run(["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", self.superuser_url, *arguments])

    def as_caller(self, claim, sql):
        """What psql prints of one statement in a caller's transaction."""
        return processes.run(["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", self.app_url, "-c", "begin read only",
                              "-c", ADMIT.format(claim=claim), "-c", sql, "-c", "rollback"])

    def claim(self, caller):
        """A claim for an hour, as src/identity/claim.rs signs it."""
        key_id, secret = self.claim_key.split(":")
        signed = f"v2.{key_id}.{caller}.-.{int(time.time()) + 3600}.{os.urandom(12).hex()}"
        return f"{signed}.{hmac.new(base64.b64decode(secret), signed.encode(), hashlib.sha256).hexdigest()}"

    def guarded(self, sql=QUERY, caller=SEATTLE):
        """The text of a caller's transaction, for programs that send SQL as it is."""
        return GUARDED.format(claim=self.claim(caller), sql=sql)

    def cpu(self):
        """CPU seconds of PostgreSQL, all of its processes."""
        return processes.cpu(processes.family(self.postgres))


def _name(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except FileNotFoundError:
        return ""


class Psql:
    """A psql that stays connected and says how long each statement took."""

    def __init__(self, url, *before):
        self.process = processes.start(
            ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for statement in before:
            self._say(statement)
        self._say(r"\timing on")

    def _say(self, text):
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()

    def milliseconds(self, statement):
        """Runs one statement; the time that psql saw."""
        self._say(statement)
        while line := self.process.stdout.readline().decode():
            if line.startswith("Time: "):
                return float(line.split()[1])
        raise RuntimeError("psql ended")
