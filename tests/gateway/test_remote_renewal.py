"""What becomes of a token when calls are given up, and of a session when only its standing stream is refused."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from gateway.remote.net import Web
from gateway.remote.oauth.grant import Client, Grant, Vault
from gateway.remote.oauth.keeper import Keeper
from harbourmaster.core.secrets import SecretStore
from harbourmaster.core.settings import Settings
from tests.gateway.elsewhere import Elsewhere, Reply, Request, greeting, remote, result, serving_remotes
from tests.gateway.harness import tool_call, until


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings.load(home=home, secrets_backend="age")


@pytest.fixture
def vault(settings: Settings) -> Vault:
    return Vault(lambda: SecretStore.of(settings), "far")


def grant(url: str, **more: object) -> Grant:
    client = Client("https://as.example", "us")
    return Grant("https://far.example/mcp", "r", client, url, "old-access", refresh_token="old-refresh", **more)  # type: ignore[arg-type]


async def test_a_renewal_is_finished_and_kept_although_the_call_that_wanted_it_was_given_up(
    settings: Settings, vault: Vault
) -> None:
    """The old refresh token was spent with the request: without the answer the login would be lost."""
    spent, go_on = asyncio.Event(), asyncio.Event()

    async def script(request: Request, reply: Reply) -> None:
        assert parse_qs(request.raw.decode())["refresh_token"] == ["old-refresh"]
        spent.set()
        await go_on.wait()
        body = {
            "access_token": "new-access",
            "token_type": "Bearer",
            "refresh_token": "new-refresh",
            "expires_in": 3600,
        }
        await reply.send(200, body)

    async with Elsewhere(script).running() as server:
        vault.save(grant(server.url, expires=1.0))
        web = Web(lambda host, port: True)
        keeper = Keeper("far", "https://far.example/mcp", web, vault, settings.run_dir / "guard")
        call = asyncio.create_task(keeper.headers())
        await spent.wait()
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
        go_on.set()
        await keeper.close()
        kept = vault.load()
        assert kept is not None
        assert (kept.access_token, kept.refresh_token) == ("new-access", "new-refresh")
        assert await keeper.headers() == [(b"authorization", b"Bearer new-access")]
        assert len(server.seen) == 1
        await web.close()


@pytest.mark.parametrize(
    ("status", "error", "gone"),
    [(400, "invalid_grant", True), (500, "", False), (400, "temporarily_unavailable", False)],
)
async def test_a_renewal_that_fails_drops_the_grant_only_where_it_is_over(
    settings: Settings, vault: Vault, status: int, error: str, gone: bool
) -> None:
    async def script(request: Request, reply: Reply) -> None:
        await reply.send(status, {"error": error})

    async with Elsewhere(script).running() as server:
        vault.save(grant(server.url, expires=1.0))
        web = Web(lambda host, port: True)
        keeper = Keeper("far", "https://far.example/mcp", web, vault, settings.run_dir / "guard")
        sent = await keeper.headers()
        assert sent == ([] if gone else [(b"authorization", b"Bearer old-access")])  # it may do a little longer
        await keeper.headers()
        assert len(server.seen) == 1, "a server that says no is not asked again by every call"
        assert (vault.load() is None) == gone
        await web.close()


@pytest.mark.parametrize("status", [401, 403, 405, 500])
async def test_a_session_goes_on_where_only_its_standing_stream_is_refused(settings: Settings, status: int) -> None:
    async def answer(request: Request, reply: Reply) -> None:
        await reply.send(200, result(request, content=[{"type": "text", "text": "here"}]))

    greet = greeting(answer)

    async def script(request: Request, reply: Reply) -> None:
        if request.method == "GET":
            await reply.send(status)
        else:
            await greet(request, reply)

    async with (
        Elsewhere(script).running() as server,
        serving_remotes(settings, remote(server.url)) as (_, http),
    ):
        session = await http.initialize()
        assert "result" in await http.call(session, "tools/call", tool_call("echo"), 1)
        await until(lambda: any(r.method == "GET" for r in server.seen), "the standing stream")
        for number in (2, 3):
            assert "result" in await http.call(session, "tools/call", tool_call("echo"), number)
        assert len(server.asked("initialize")) == 1
