"""What the gateway's benchmark talks to: a program that serves, an address and a token; requests to it."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True)
class Side:
    url: str
    token: str = "-"
    session: str = "-"
    tool: str = "echo"  # as this side names it

    def with_session(self, session: str) -> Side:
        return dataclasses.replace(self, session=session)


@contextlib.contextmanager
def started(module: str, image: str) -> Iterator[Side]:
    """``module`` prints its address and token when it listens."""
    command = [sys.executable, "-m", module, image, str(free_port())]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        words = process.stdout.readline().split()
        side = Side(words[0], words[1])
        wait_for(side)
        yield side
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate()


def wait_for(side: Side) -> None:
    where = urlsplit(side.url)
    for _ in range(4800):
        with contextlib.suppress(OSError), socket.create_connection((where.hostname, where.port), 1):
            return
        time.sleep(0.025)
    raise SystemExit(f"nothing listens at {side.url}")


def request(side: Side, method: str, body: Any, path: str = "") -> tuple[http.client.HTTPMessage, Any]:
    where = urlsplit(side.url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port)
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    if side.token != "-":
        headers["Authorization"] = f"Bearer {side.token}"
    if side.session != "-":
        headers["Mcp-Session-Id"] = side.session
    try:
        connection.request(method, path or where.path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        raw = response.read()
    finally:
        connection.close()
    return response.headers, _parsed(raw)


def _parsed(raw: bytes) -> Any:
    """JSON, or the last event of a stream."""
    events = [line[6:] for line in raw.splitlines() if line.startswith(b"data: {")]
    return json.loads(events[-1] if events else raw) if raw else None


def initialize(side: Side, client: str = "bench") -> str:
    """A handshake; the session's id."""
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": client, "version": "0"}}
    headers, _ = request(side, "POST", {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello})
    session = headers["mcp-session-id"] or "-"
    request(side.with_session(session), "POST", {"jsonrpc": "2.0", "method": "notifications/initialized"})
    return session


def call(side: Side) -> None:
    params = {"name": side.tool, "arguments": {"text": "hello"}}
    _, reply = request(side, "POST", {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    assert reply["result"]["content"][0]["text"] == "hello", reply


def status(side: Side) -> Any:
    """The gateway's own figures."""
    return request(side, "GET", None, "/admin/status")[1]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
