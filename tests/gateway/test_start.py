"""What starting the gateway loads, which every client waits for.  What only some calls need is loaded for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import mcp_types
import pytest
from mcp_types import jsonrpc, version

from gateway import protocol
from gateway.lock import LockedServer, write_lock
from harbourmaster.core.settings import Settings
from tests.gateway import backend
from tests.gateway.harness import locked

# What verifies papers, keeps and searches the catalog, speaks HTTP to others, builds images and runs models; the SDK's models.
LATER = {
    "sigstore", "sigstore_models", "tuf", "rfc3161_client", "cyclonedx", "packageurl", "license_expression", "oras",
    "sqlalchemy", "sqlmodel", "alembic", "numpy", "llama_cpp", "httpx", "httpx2", "jwt", "mcp", "mcp_types", "starlette",
    "fastapi", "jinja2", "jsonschema", "rich",
}  # fmt: skip

SERVE = """
import asyncio, json, sys
import gateway.cli
from harbourmaster.cli import build_app
from harbourmaster.core.settings import Settings

build_app(["gateway"])

async def main():
    from gateway.serve import bind, http_server
    from harbourmaster.compose import composed_gateway
    settings, sock = Settings.load(), bind("127.0.0.1", 0)
    async with composed_gateway(settings) as served, http_server(served, settings, sock):
        print(json.dumps([sorted(served.index.tools), sorted(sys.modules)]))

asyncio.run(main())
"""


def started(home: Path, engine: str) -> tuple[list[str], set[str]]:
    """A gateway is started and ended: the tools that it served, and the modules that it had loaded by then."""
    environment = {**os.environ, "HM_HOME": str(home), **({"HM_ENGINE_URL": engine} if engine else {})}
    done = subprocess.run([sys.executable, "-c", SERVE], env=environment, capture_output=True, text=True, check=True)
    tools, modules = json.loads(done.stdout)
    return tools, set(modules)


def servers() -> dict[str, LockedServer]:
    return {name: locked(name, backend.listing(name)) for name in ("alpha", "beta")}


def test_a_start_loads_nothing_that_only_some_calls_need(settings: Settings, tmp_path: Path) -> None:
    write_lock(settings.lock_file, servers())
    tools, modules = started(settings.home, f"unix://{tmp_path}/none.sock")
    assert "alpha__echo" in tools
    assert not LATER & modules


@pytest.mark.engine
def test_nor_does_one_that_finds_an_engine(settings: Settings) -> None:
    write_lock(settings.lock_file, servers())
    _, modules = started(settings.home, "")
    assert "docker" in modules
    assert not LATER & modules


def test_what_is_restated_of_the_protocol_is_the_sdk_s() -> None:
    theirs = {**vars(version), **vars(jsonrpc), **vars(mcp_types)}
    ours = {name: value for name, value in vars(protocol).items() if name.isupper()}
    assert len(ours) > 15
    assert ours == {name: theirs[name] for name in ours}


def test_a_lock_that_did_not_change_is_not_taken_apart_again(settings: Settings) -> None:
    from gateway.lock import read_lock

    write_lock(settings.lock_file, servers())
    first, second = read_lock(settings.lock_file), read_lock(settings.lock_file)
    assert first is not second, "who changes one does not change the other"
    assert all(first[name] is second[name] for name in first)
    write_lock(settings.lock_file, {"alpha": servers()["alpha"]})
    assert sorted(read_lock(settings.lock_file)) == ["alpha"]
