"""The official suite, our conformance server in a sandbox, and the gateway between them."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.gateway import Gateway
from gateway.serve import bind, http_server
from gateway.tokens import TokenStore
from harbourmaster.compose import starter
from harbourmaster.core.errors import EngineError
from harbourmaster.core.settings import Settings
from registry.build.image import Built
from sandbox.engine import Engine
from sandbox.profile import Profile
from sandbox.spec import SandboxSpec
from tests.conformance import image
from tests.conformance.bearer import with_token
from tests.conformance.listing import handshake_listing, modern_listing
from tests.fixtures.npm import cache_dir, installed, node_in
from tests.gateway.harness import Admitted, locked

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NAME = "conformance"


@pytest.fixture(scope="session")
def suite() -> list[str]:
    """The suite as a command."""
    modules = installed("conformance", HERE)
    return [str(node_in(modules)), str(modules / "@modelcontextprotocol" / "conformance" / "dist" / "index.js")]


@pytest.fixture(scope="session")
def built(built_home: Path | None) -> Iterator[Built]:
    """The image of the conformance server; without ``HM_TEST_HOME`` the cache keeps it for the next run."""
    settings = Settings.load(home=built_home or cache_dir() / "home")
    try:
        engine = Engine.connect(settings)
    except EngineError as e:
        pytest.skip(f"no container engine: {e.message}")
    try:
        built = image.build(settings, engine)
        yield built
        engine.client.images.remove(built.image_id, force=True)
    finally:
        engine.close()


@contextlib.asynccontextmanager
async def direct() -> AsyncIterator[str]:
    """The conformance server on its own, over HTTP, without gateway or sandbox."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.conformance.server", "--http", "0", cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        url = (await process.stdout.readline()).decode().strip()
        assert url, "the conformance server did not start"
        yield url.replace("127.0.0.1", "localhost")
    finally:
        process.terminate()
        await process.wait()


@dataclass
class Harbour:
    """A gateway over real sandboxes of one image."""

    settings: Settings
    engine: Engine
    built: Built
    records: list[dict[str, Any]]

    @contextlib.asynccontextmanager
    async def through(self, era: str) -> AsyncIterator[str]:
        """The gateway's address for the suite, the server behind it locked as one of ``era``."""
        profile = Profile.load()
        listing = await (modern_listing if era == "modern" else handshake_listing)(
            self.engine, profile, SandboxSpec(NAME, self.built.image_id, self.built.manifest)
        )
        admitted = Admitted(self.built.manifest, self.built.image_id)
        server = locked(NAME, listing, image=admitted.image, image_id=admitted.image_id, profile=profile.digest, run={})
        gateway = Gateway(
            self.settings,
            {NAME: server},
            admit=lambda name: admitted,
            start=starter(self.engine, profile, self.records.append),
            append=self.records.append,
            tokens=TokenStore(self.settings.tokens_file),
        )
        sock = bind("127.0.0.1", 0)
        port = sock.getsockname()[1]
        async with (
            gateway,
            http_server(gateway, self.settings, sock),
            with_token(port, gateway.tokens.default()) as relay,
        ):
            yield f"http://localhost:{relay}/mcp"


@pytest.fixture
def harbour(settings: Settings, built: Built) -> Iterator[Harbour]:
    engine = Engine.connect(settings)
    yield Harbour(settings, engine, built, [])
    left = engine.client.containers.list(all=True, filters={"label": f"harbourmaster.home={engine.home_label}"})
    engine.close()
    assert left == [], "a sandbox outlived its gateway"
