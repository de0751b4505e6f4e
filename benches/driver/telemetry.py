"""What telling a collector costs: the same load with and without one on this machine, in turns."""

import http.server
import threading

from calls import body_of, under_load
from report import in_turns, middle, take_turns
from server import Server

CLIENTS = 16


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes OTLP over HTTP and forgets it. Its CPU is not Rowgate's, but it is the machine's."""

    protocol_version = "HTTP/1.1"
    taken = 0

    def do_POST(self):
        Collector.taken += len(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def measure(report, binary, database, rounds=3, seconds=3):
    """Each round without and with: calls a second, and the server's CPU a call."""
    report.section("Telemetry")
    collector = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    told = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}"}
    servers = {name: Server(binary, database, pool=CLIENTS, **environment)
               for name, environment in (("without", {}), ("with", told))}
    body, _result = body_of(servers["without"])
    for server in servers.values():
        under_load(server, CLIENTS, 1, body)
    runs = take_turns(rounds, {
        name: lambda server=server: under_load(server, CLIENTS, seconds, body) for name, server in servers.items()})
    without, with_it = runs["without"], runs["with"]
    for server in servers.values():
        server.stop()
    collector.shutdown()
    if not Collector.taken:
        raise SystemExit("the collector was told nothing")
    report.raw["telemetry"] = {**runs, "bytes": Collector.taken}
    ratio = in_turns(with_it, without, "calls_per_second")
    report.add(f"calls a second, {CLIENTS} clients, with a collector", middle(with_it, "calls_per_second"), "/s", "without",
               middle(without, "calls_per_second"), ratio, aim="≥ 0.95 × without", met=ratio[0] >= 0.95)
    report.add("  server CPU a call", middle(with_it, "cpu_ms_per_call"), "ms", "without",
               middle(without, "cpu_ms_per_call"), in_turns(with_it, without, "cpu_ms_per_call"))
