"""Starting a gateway with 300 servers and 3,000 tools, and listing them; no container runs for either."""

from __future__ import annotations

import http.client
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from urllib.parse import urlsplit

from benchmarks.gateway_sides import ROOT, Side, free_port, initialize, wait_for
from gateway.lock import write_lock
from gateway.tokens import TokenStore
from harbourmaster.core.settings import Settings
from tests.gateway.harness import locked

SERVERS, TOOLS = 300, 10
STARTS = 5
LISTS = 50


def lock(settings: Settings) -> None:
    """Tools of a usual size: a paragraph, three parameters."""
    servers = {f"server-{n:03}": locked(f"server-{n:03}", listing(n)) for n in range(SERVERS)}
    write_lock(settings.lock_file, servers)


def listing(number: int) -> dict[str, object]:
    text = {"type": "string", "description": "what to look for, in the words of whoever asks"}
    schema = {"type": "object", "properties": {"query": text, "limit": {"type": "integer"}, "since": text}}
    tools = [
        {"name": f"tool_{number}_{n}", "description": "Find records by their text. " * 8, "inputSchema": schema}
        for n in range(TOOLS)
    ]
    info = {"name": f"server-{number:03}", "version": "1"}
    return {"protocolVersion": "2025-11-25", "serverInfo": info, "capabilities": {"tools": {}}, "tools": tools}


def report() -> None:
    starts: list[float] = []
    lists: list[float] = []
    size = 0
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory() as compiled:
        os.environ["HM_HOME"] = home
        # As an installed program runs: compiled once (in the start that does not count), whatever this shell says.
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = compiled
        settings = Settings.load()
        lock(settings)
        token = TokenStore(settings.tokens_file).default()
        for number in range(STARTS + 1):
            port = free_port()
            began = time.perf_counter()
            command = [sys.executable, "-c", "from harbourmaster.cli import main; main()", "gateway", "run"]
            process = subprocess.Popen(
                [*command, "--port", str(port)], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL
            )
            try:
                side = Side(f"http://127.0.0.1:{port}/mcp", token)
                wait_for(side)
                session = initialize(side)
                starts += [time.perf_counter() - began] if number else []
                size = listed(side.with_session(session), lists)
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait()
    print(f"\n| {SERVERS} servers, {SERVERS * TOOLS:,} tools | median | slowest |")
    print("|---|---|---|")
    print(f"| gateway start, to the first answer | {statistics.median(starts):.2f} s | {max(starts):.2f} s |")
    print(f"| `tools/list` ({size / 1e6:.1f} MB) | {statistics.median(lists):.1f} ms | {max(lists):.1f} ms |")


def listed(side: Side, times: list[float]) -> int:
    """Ask ``LISTS`` times on one connection; the size of the answer."""
    where = urlsplit(side.url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port)
    headers = {
        "Authorization": f"Bearer {side.token}",
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Mcp-Session-Id": side.session,
    }
    raw = b""
    for number in range(LISTS):
        body = json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/list"})
        began = time.perf_counter()
        connection.request("POST", where.path, body, headers)
        raw = connection.getresponse().read()
        times.append((time.perf_counter() - began) * 1000)
    connection.close()
    assert len(json.loads(raw)["result"]["tools"]) == SERVERS * TOOLS, raw[:300]
    return len(raw)


if __name__ == "__main__":
    report()
