"""Other gateways beside ours in the same run, in venvs of their own, in front of the same echo program.

Theirs runs as a plain process, without sandbox, verification, policy or audit.  Where a peer has a switch that makes calls
cheaper (authentication, rate limits, logs), it is turned that way.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.gateway_sides import Side, call, free_port, initialize, request, wait_for
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


# ContextForge 1.0: no token needed, no limits, its database and caches in this process, one upstream session per session.
CONTEXTFORGE = {
    "AUTH_REQUIRED": "false",
    "MCP_REQUIRE_AUTH": "false",
    "ALLOW_UNAUTHENTICATED_ADMIN": "true",
    "MCPGATEWAY_ADMIN_API_ENABLED": "true",
    "SSRF_ALLOW_LOCALHOST": "true",  # where its upstream is
    "RATE_LIMITING_ENABLED": "false",
    "TOOL_RATE_LIMIT": "1000000000",  # a minute
    "PLUGINS_ENABLED": "false",
    "USE_STATEFUL_SESSIONS": "true",
    "CACHE_TYPE": "memory",
    "LOG_LEVEL": "ERROR",
}
SECRETS = (
    "JWT_SECRET_KEY",
    "AUTH_ENCRYPTION_SECRET",
    "BASIC_AUTH_PASSWORD",
    "PLATFORM_ADMIN_PASSWORD",
    "DEFAULT_USER_PASSWORD",
)


@contextlib.contextmanager
def contextforge(python: str, place: Path) -> Iterator[Side]:
    """``python``: of a venv with ``mcp-contextforge-gateway``.  It takes upstreams over HTTP alone; its own bridge to stdio,
    ``mcpgateway.translate``, stands between it and the echo program."""
    port, bridge = free_port(), free_port()
    environment = {**os.environ, **CONTEXTFORGE, **{name: secrets.token_urlsafe(32) for name in SECRETS}}
    environment["DATABASE_URL"] = f"sqlite:///{place}/contextforge.db"
    translate = ["--stdio", str(echo_program(place)), "--expose-streamable-http", "--jsonResponse"]
    with (
        running(
            [python, "-m", "mcpgateway.translate", *translate, "--port", str(bridge), "--logLevel", "error"],
            environment,
        ),
        running(
            [python, "-m", "mcpgateway.cli", "--port", str(port), "--log-level", "error", "--no-access-log"],
            environment,
        ),
    ):
        side = Side(f"http://127.0.0.1:{port}/mcp/", tool="bench-echo")
        wait_for(side)
        wait_for(Side(f"http://127.0.0.1:{bridge}/mcp"))
        upstream = {"name": "bench", "url": f"http://127.0.0.1:{bridge}/mcp", "transport": "STREAMABLEHTTP"}
        _, registered = request(side, "POST", upstream, "/v1/gateways")
        if not registered.get("reachable"):
            raise SystemExit(f"ContextForge does not reach its upstream: {registered}")
        side = side.with_session(initialize(side))
        call(side)
        yield side


@contextlib.contextmanager
def running(command: list[str], environment: dict[str, str]) -> Iterator[None]:
    """A program whose words nobody needs to hear."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def echo_program(place: Path) -> Path:
    program = place / "echo"
    if not program.exists():  # another peer runs it
        program.write_bytes(compile_static(ECHO_SOURCE))
        program.chmod(0o755)
    return program
