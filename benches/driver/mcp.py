"""An MCP client of a few lines over one kept connection: requests by POST, answers as JSON or as one event."""

import json
import socket

HEADERS = {"content-type": "application/json", "accept": "application/json, text/event-stream"}


class Client:
    """Speaks to one server. `headers` go with every request."""

    def __init__(self, address, path="/mcp", headers=None):
        self.address, self.path = address, path
        self.headers = {**HEADERS, "host": "{}:{}".format(*address), **(headers or {})}
        self.socket = None
        self.rest = b""

    def connect(self):
        """Connects; again, if it was connected."""
        self.close()
        self.socket = socket.create_connection(self.address, timeout=120)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self):
        """Closes the connection."""
        if self.socket:
            self.socket.close()
        self.socket, self.rest = None, b""

    def request(self, method, params, number=1):
        """One request; its result, or an error with what was answered instead."""
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        if number is None:
            del message["id"]
        body = self.exchange(json.dumps(message).encode())
        if number is None:
            return None
        answer = json.loads(body)
        if "result" not in answer:
            raise RuntimeError(f"{method}: {body[:500]!r}")
        return answer["result"]

    def call(self, tool, arguments):
        """A call of a tool; its result."""
        result = self.request("tools/call", {"name": tool, "arguments": arguments})
        if result.get("isError"):
            raise RuntimeError(f"{tool}: {json.dumps(result)[:500]}")
        return result

    def initialize(self):
        """What servers with sessions want first."""
        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
        self.request("initialize", hello)
        self.headers["mcp-protocol-version"] = "2025-06-18"
        self.request("notifications/initialized", {}, number=None)

    def exchange(self, body):
        """Posts a body and returns the answer's."""
        if not self.socket:
            self.connect()
        head = f"POST {self.path} HTTP/1.1\r\ncontent-length: {len(body)}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        self.socket.sendall(head.encode() + b"\r\n" + body)
        lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        status = int(lines[0].split()[1])
        known = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        if "mcp-session-id" in known:
            self.headers["mcp-session-id"] = known["mcp-session-id"]
        if known.get("transfer-encoding") == "chunked":
            received = b""
            while size := int(self._until(b"\r\n").split(b";")[0], 16):
                received += self._exactly(size)
                self._exactly(2)
            self._until(b"\r\n")
        elif "content-length" in known:
            received = self._exactly(int(known["content-length"]))
        elif status in (202, 204):
            received = b""
        else:
            raise RuntimeError(f"an answer without a length: {lines}")
        if known.get("connection", "").lower() == "close":
            self.close()
        if status >= 300:
            raise RuntimeError(f"HTTP {status}: {received[:500]!r}")
        if known.get("content-type", "").startswith("text/event-stream"):
            events = [line[5:].strip() for line in received.split(b"\n") if line.startswith(b"data:")]
            received = next((event for event in reversed(events) if event), b"")
        return received

    def _more(self):
        received = self.socket.recv(1 << 16)
        if not received:
            raise RuntimeError("the server closed the connection")
        self.rest += received

    def _until(self, mark):
        while mark not in self.rest:
            self._more()
        before, _, self.rest = self.rest.partition(mark)
        return before

    def _exactly(self, size):
        while len(self.rest) < size:
            self._more()
        taken, self.rest = self.rest[:size], self.rest[size:]
        return taken
