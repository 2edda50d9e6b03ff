"""The official suite through the gateway, the server behind it reached over Streamable HTTP: what passes directly passes through."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.remote.box import FixedHeaders
from gateway.remote.listing import listing_of
from gateway.remote.start import Remotes
from harbourmaster.core.secrets import Delivery
from harbourmaster.core.settings import Settings
from tests.conformance.bearer import with_token
from tests.conformance.conftest import direct
from tests.conformance.suite import REVISIONS, run
from tests.conformance.test_conformance import LOSSES, NOTHING, passed_directly
from tests.gateway.elsewhere import remote, serving_remotes

pytestmark = [pytest.mark.npm, pytest.mark.slow, pytest.mark.timeout(900)]

NAME = "conformance"


@contextlib.asynccontextmanager
async def through(settings: Settings, era: str) -> AsyncIterator[str]:
    """The gateway's address for the suite; the server is remote, and listed and locked in ``era``."""
    async with direct() as url:
        url = url.replace("localhost", "127.0.0.1")
        remotes = Remotes(lambda server: Delivery(), lambda name, *_: FixedHeaders(name, []), lambda record: None)

        async def start(version, on_line, on_exit):  # type: ignore[no-untyped-def]
            return await remotes.start(remote(url, {"protocolVersion": version}, name=NAME), on_line, on_exit)

        listing = await listing_of(NAME, start, 30, modern=era == "modern")
        await remotes.close()
        async with (
            serving_remotes(settings, remote(url, listing, name=NAME)) as (_, http),
            with_token(http.port, http.token) as relay,
        ):
            yield f"http://localhost:{relay}/mcp"


@pytest.mark.parametrize("era", ["handshake", "modern"])
@pytest.mark.parametrize("revision", REVISIONS)
async def test_what_passes_directly_passes_through_to_a_remote_server(
    suite: list[str], settings: Settings, tmp_path: Path, revision: str, era: str
) -> None:
    alone = await passed_directly(suite, revision, tmp_path / "direct")
    async with through(settings, era) as url:
        behind = await run(suite, url, revision, tmp_path / "through")
    print(f"\n{revision}, {era} server over HTTP: direct {alone}; through {behind}")
    expected = LOSSES.get((revision, era), NOTHING)
    worse = behind.worse_than(alone)
    surprises = [line for line in worse if line.partition(":")[0] not in expected]
    assert not surprises, "through the gateway these fail:\n" + "\n".join(surprises)
    assert {line.partition(":")[0] for line in worse} == set(expected), "a documented loss is none any more"
