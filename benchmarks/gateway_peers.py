"""Other gateways beside ours in the same run, in venvs of their own, in front of the same echo program.

Theirs runs as a plain process, without sandbox, verification, policy or audit: they have none.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.gateway_sides import Side, call, free_port, initialize, wait_for
from tests.fixtures.images import ECHO_SOURCE, compile_static

PROXY = """
import sys
from fastmcp.client.transports import StdioTransport
from fastmcp.server import create_proxy

proxy = create_proxy(StdioTransport(command=sys.argv[1], args=[], keep_alive=True), name="peer")
proxy.run(transport="http", host="127.0.0.1", port=int(sys.argv[2]), path="/mcp", show_banner=False, json_response=True,
          uvicorn_config={"access_log": False, "log_level": "error"})
"""


@contextlib.contextmanager
def fastmcp(python: str, place: Path) -> Iterator[Side]:
    """``python``: of a venv with ``fastmcp``."""
    echo, port = echo_program(place), free_port()
    environment = {**os.environ, "FASTMCP_LOG_LEVEL": "ERROR"}
    process = subprocess.Popen([python, "-c", PROXY, str(echo), str(port)], env=environment)
    try:
        side = Side(f"http://127.0.0.1:{port}/mcp")
        wait_for(side)
        side = side.with_session(initialize(side))
        call(side)
        yield side
    finally:
        process.terminate()
        process.wait()


def echo_program(place: Path) -> Path:
    program = place / "echo"
    program.write_bytes(compile_static(ECHO_SOURCE))
    program.chmod(0o755)
    return program
