"""Where a server elsewhere, or whoever it names for the login, could lead the gateway: nowhere that was not checked.

Beside ``test_remote_pure`` (addresses), ``test_remote_login`` (metadata that name private places) and ``test_remote_http``.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Awaitable, Callable

import pytest

from gateway.remote.net import Web, only
from gateway.remote.oauth.discovery import discover, post_json
from gateway.remote.oauth.flow import revoke
from gateway.remote.oauth.grant import Client, Grant
from gateway.remote.oauth.metadata import Challenge
from harbourmaster.core.errors import HarbourError
from harbourmaster.core.settings import Settings
from sandbox.egress.dial import allowed
from sandbox.egress.errors import AddressDenied
from sandbox.egress.resolver import Place
from sandbox.egress.rules import Rule
from tests.gateway.elsewhere import Elsewhere, Reply, Request, remote, serving_remotes
from tests.gateway.harness import tool_call

Ask = Callable[[Web, str], Awaitable[object]]


def grant(url: str) -> Grant:
    return Grant(url, url, Client("i", "c"), url, "token-value", refresh_token="r", revocation_endpoint=url)


ASKS: dict[str, Ask] = {
    "resource metadata": lambda web, url: discover(web, url, Challenge()),
    "metadata that a challenge names": lambda web, url: discover(web, url, Challenge(resource_metadata=url)),
    "registration": lambda web, url: post_json(web, url, {"client_name": "us"}),
    "revocation": lambda web, url: revoke(web, grant(url)),
}


@pytest.mark.parametrize("what", ASKS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed_on_the_way_to_a_token(what: str, status: int) -> None:
    async def trap(request: Request, reply: Reply) -> None:
        await reply.send(200, {"issuer": "evil"})

    async with Elsewhere(trap).running() as other:

        async def script(request: Request, reply: Reply) -> None:
            await reply.send(status, Location=other.url)

        async with Elsewhere(script).running() as far:
            web = Web(lambda host, port: host == "127.0.0.1")
            with contextlib.suppress(HarbourError):
                await ASKS[what](web, far.url)
            await web.close()
            assert far.seen
        assert other.seen == []


@pytest.mark.parametrize("transport", ["streamable-http", "sse"])
async def test_a_connection_that_is_redirected_to_this_machine_is_not_made(settings: Settings, transport: str) -> None:
    async def trap(request: Request, reply: Reply) -> None:
        await reply.send(200)

    async with Elsewhere(trap).running() as inside:

        async def script(request: Request, reply: Reply) -> None:
            await reply.send(308, Location=inside.url)

        async with (
            Elsewhere(script).running() as far,
            serving_remotes(settings, remote(far.url, transport=transport)) as (_, http),
        ):
            reply = await http.call(await http.initialize(), "tools/call", tool_call("echo"))
            assert reply["error"]["data"]["code"] == "remote.redirected"
        assert inside.seen == []


async def test_a_name_that_changes_its_address_gains_nothing() -> None:
    """One look-up for each connection: what it said is checked, and is what is dialled."""

    async def answer(request: Request, reply: Reply) -> None:
        await reply.send(200, Connection="close")
        reply.cut()

    asked: list[str] = []
    addresses = ["127.0.0.1", "169.254.169.254"]

    async def look(host: str, port: int) -> list[Place]:
        asked.append(host)
        return [Place(socket.AF_INET, addresses[len(asked) - 1], port)]

    async with Elsewhere(answer).running() as server:
        url = f"http://rebound.localhost:{server.port}/"
        web = Web(only(frozenset({f"rebound.localhost:{server.port}"})), look=look)
        async with web.request("GET", url, [], read_s=5) as response:
            assert response.status == 200
        assert asked == ["rebound.localhost"], "resolved once, and not again by whoever connects"
        with pytest.raises(AddressDenied):
            async with web.request("GET", url, [], read_s=5):
                raise AssertionError("it was dialled")
        await web.close()
        assert (len(asked), len(server.seen)) == (2, 1)


def test_of_a_name_s_addresses_only_public_ones_are_dialled() -> None:
    rule = Rule("mixed.example", 443)
    mixed = [Place(socket.AF_INET, address, 443) for address in ("10.0.0.1", "8.8.8.8", "127.0.0.1", "169.254.169.254")]
    assert [place.address for place in allowed(rule, "mixed.example", mixed)] == ["8.8.8.8"]
