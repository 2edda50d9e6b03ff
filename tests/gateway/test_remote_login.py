"""Logging in to servers elsewhere: a real authorization server, and the ways a false one could cheat."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from gateway.errors import NotAgreed
from gateway.lock import read_lock
from gateway.remote.errors import RemoteInsecure
from gateway.remote.net import Web
from gateway.remote.oauth.discovery import Discovery, discover
from gateway.remote.oauth.errors import DiscoveryRefused, GrantOver, NobodyAnswered, RedirectForged, TokenFailed
from gateway.remote.oauth.flow import code_from, question_for, renew
from gateway.remote.oauth.grant import Client, Grant, Vault
from gateway.remote.oauth.keeper import Keeper
from gateway.remote.oauth.login import log_in
from gateway.remote.oauth.metadata import AuthServer, Challenge, Resource, auth_server_of, challenge_of, resource_of
from gateway.remote.oauth.redirect import Listener, Pasted
from gateway.remote.spec import OAuthSpec, RemoteSpec
from harbourmaster.core.audit import tail
from harbourmaster.core.secrets import SecretId, SecretStore
from harbourmaster.core.settings import Settings
from harbourmaster.up import remote as up_remote
from sandbox.egress.errors import AddressDenied, ResolveFailed
from sandbox.egress.resolver import Place
from tests.gateway.elsewhere import Elsewhere, Reply, Request, remote, serving_remotes
from tests.gateway.harness import tool_call
from tests.gateway.provider import Guarded, Person, agree, provider

ROOT = Path(__file__).resolve().parents[2]


def loopback(host: str, port: int) -> bool:
    return host == "127.0.0.1"


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings.load(home=home, secrets_backend="age")


@pytest.fixture
def vault(settings: Settings) -> Vault:
    return Vault(lambda: SecretStore.of(settings), "far")


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    web = Web(loopback)
    yield web
    await web.close()


@contextlib.asynccontextmanager
async def guarded(tmp_path: Path, *, seconds: int = 3600, **more: Any) -> AsyncIterator[Guarded]:
    """A server that wants the tokens of a real provider."""
    guard = Guarded(**more)
    async with Elsewhere(guard.script).running() as server:
        guard.url = server.url
        async with provider(tmp_path / "provider", server.url, seconds=seconds) as guard.issuer:
            yield guard


def keeping(settings: Settings, vault: Vault) -> Any:
    return lambda name, spec, web: Keeper(name, spec.url, web, vault, settings.run_dir / "oauth.guard")


async def logged_in(guard: Guarded, web: Web, vault: Vault, **more: Any) -> Grant:
    async with Listener(Person().show) as listener:
        return await log_in(RemoteSpec(guard.url, **more), web, vault, listener)


npm = pytest.mark.npm


@npm
async def test_a_login_registers_agrees_and_gives_calls_a_token_for_that_server_alone(
    settings: Settings, tmp_path: Path, web: Web, vault: Vault
) -> None:
    async with (
        guarded(tmp_path) as guard,
        serving_remotes(settings, remote(guard.url), login=keeping(settings, vault), may_be_private=loopback) as (
            _,
            http,
        ),
    ):
        refused = await http.call(await http.initialize(), "tools/call", tool_call("echo"))
        assert refused["error"]["data"] == {
            "code": "remote.login_required",
            "remedy": "log in once: hm server login far",
        }
        grant = await logged_in(guard, web, vault)
        answer = await http.call(await http.initialize(), "tools/call", tool_call("echo"))
        assert answer["result"]["content"][0]["text"] == "let in"
        assert guard.tokens[-1] == grant.access_token
        assert (grant.resource, grant.client.registered, grant.scopes) == (guard.url, True, ("read",))
        stored = b"".join(path.read_bytes() for path in settings.home.rglob("*") if path.is_file())
        assert grant.access_token.encode() not in stored
        assert grant.refresh_token.encode() not in stored


@npm
async def test_a_token_is_renewed_before_it_ends_by_one_of_many_calls(
    settings: Settings, tmp_path: Path, web: Web, vault: Vault
) -> None:
    async with guarded(tmp_path, seconds=3600) as guard:
        grant = await logged_in(guard, web, vault)
        later = grant.expires - 5
        keeper = Keeper("far", guard.url, web, vault, settings.run_dir / "guard", clock=lambda: later)
        sent = await asyncio.gather(*(keeper.headers() for _ in range(5)))
        renewed = vault.load()
        assert renewed is not None
        assert renewed.access_token != grant.access_token
        assert {tuple(headers) for headers in sent} == {
            ((b"authorization", f"Bearer {renewed.access_token}".encode()),)
        }


@npm
async def test_a_refused_token_is_renewed_and_the_call_repeated_and_a_dead_grant_asks_for_a_login(
    settings: Settings, tmp_path: Path, web: Web, vault: Vault
) -> None:
    async with (
        guarded(tmp_path) as guard,
        serving_remotes(settings, remote(guard.url), login=keeping(settings, vault), may_be_private=loopback) as (
            _,
            http,
        ),
    ):
        grant = await logged_in(guard, web, vault)
        stale = re.sub(r"\.[^.]*\.", ".eyJhdWQiOiJ4IiwiaXNzIjoieCIsImV4cCI6MX0.", grant.access_token)
        vault.save(dataclasses.replace(grant, access_token=stale, expires=0))
        answer = await http.call(await http.initialize(), "tools/call", tool_call("echo"))
        assert answer["result"]["content"][0]["text"] == "let in"
        fresh = vault.load()
        assert fresh is not None
        vault.save(dataclasses.replace(fresh, access_token=stale, refresh_token="revoked"))
        guard.refuse = True
        answer = await http.call(await http.initialize(), "tools/call", tool_call("echo"))
        assert answer["error"]["data"]["code"] == "remote.login_required"
        assert vault.load() is None


@npm
async def test_a_call_that_needs_more_scope_says_so_and_a_login_for_it_keeps_what_was_granted(
    settings: Settings, tmp_path: Path, web: Web, vault: Vault
) -> None:
    async with (
        guarded(tmp_path, scope="write") as guard,
        serving_remotes(settings, remote(guard.url), login=keeping(settings, vault), may_be_private=loopback) as (
            _,
            http,
        ),
    ):
        await logged_in(guard, web, vault)
        session = await http.initialize()
        answer = await http.call(session, "tools/call", tool_call("echo"))
        assert answer["error"]["data"] == {
            "code": "remote.scope_required",
            "remedy": "log in again and grant it: hm server login far --scope write",
        }
        async with Listener(Person().show) as listener:
            grant = await log_in(RemoteSpec(guard.url), web, vault, listener, scopes=("write",))
        assert set(grant.scopes) == {"read", "write"}
        answer = await http.call(session, "tools/call", tool_call("echo"))
        assert answer["result"]["content"][0]["text"] == "let in"


@npm
async def test_a_client_registered_beforehand_proves_itself_with_its_secret(
    settings: Settings, tmp_path: Path, web: Web, vault: Vault
) -> None:
    SecretStore.of(settings).put(SecretId("far", "oauth-client-secret"), "known-secret-known-secret-known-secret")
    async with guarded(tmp_path) as guard:
        grant = await logged_in(guard, web, vault, oauth=OAuthSpec("known"))
        assert (grant.client.client_id, grant.client.auth) == ("known", "client_secret_basic")


@npm
async def test_without_a_browser_the_address_is_pasted(tmp_path: Path, web: Web, vault: Vault) -> None:
    async with guarded(tmp_path) as guard:
        grant = await log_in(RemoteSpec(guard.url), web, vault, Pasted(agree))
        assert grant.access_token


@npm
async def test_hm_server_add_logs_in_shows_locks_and_serves_and_logout_revokes(
    settings: Settings, tmp_path: Path, web: Web
) -> None:
    async with guarded(tmp_path) as guard:
        private = [RemoteSpec(guard.url).host, RemoteSpec(guard.issuer).host]
        entry = up_remote.draft(settings, "far", {"remote": {"url": guard.url, "private": private}})
        said: list[str] = []

        def add(yes: bool) -> None:
            up_remote.add(settings, entry, said.append, up_remote.Login(Person().show), yes=yes)

        with pytest.raises(NotAgreed):
            await asyncio.to_thread(add, False)
        assert guard.tokens == [], "it was connected to before anyone agreed"
        await asyncio.to_thread(add, True)
        line = read_lock(settings.lock_file)["far"]
        assert (line.tier, line.image, line.run["network"]["hosts"]) == ("remote", "", private[:1])
        assert [t["name"] for t in line.listing["tools"]] == ["echo"]
        assert any(guard.url in text for text in said)
        assert await asyncio.to_thread(up_remote.relisted, settings, "far") == line
        grant = Vault(lambda: SecretStore.of(settings), "far").load()
        assert grant is not None
        assert "revoked" in await asyncio.to_thread(up_remote.logout, settings, "far")
        with pytest.raises(GrantOver):
            await renew(web, grant, 0.0)
        assert "not logged in" in await asyncio.to_thread(up_remote.logout, settings, "far")
        recorded = [(r["kind"], r["event"]) for r in tail(settings.audit_dir, 10)]
        assert recorded == [("login", "login"), ("pin", "update"), ("login", "logout")]


@npm
async def test_the_command_line_logs_in_by_paste_where_there_is_no_browser(settings: Settings, tmp_path: Path) -> None:
    environment = {**os.environ, "HM_HOME": str(settings.home), "HM_SECRETS_BACKEND": "age"}
    async with guarded(tmp_path) as guard:
        private = ["--private", RemoteSpec(guard.issuer).host]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "harbourmaster",
            *("server", "add", "far", guard.url, "--yes", "--no-browser", *private),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            cwd=ROOT,
        )
        assert process.stderr is not None
        shown = await process.stderr.readuntil(b"paste that address here: ")
        address = next(line.strip() for line in shown.decode().splitlines() if guard.issuer in line)
        said, complaint = await process.communicate((await agree(address) + "\n").encode())
        assert process.returncode == 0, complaint.decode()
        assert "far is locked and enabled" in said.decode()
        assert "echo" in {t["name"] for t in read_lock(settings.lock_file)["far"].listing["tools"]}
        grant = Vault(lambda: SecretStore.of(settings), "far").load()
        assert grant is not None
        assert grant.access_token not in said.decode() + complaint.decode() + shown.decode()


# -- cheats


def metadata(at: str, **changes: Any) -> dict[str, Any]:
    return {
        "issuer": at,
        "authorization_endpoint": f"{at}/authorize",
        "token_endpoint": f"{at}/token",
        "code_challenge_methods_supported": ["S256"],
        **changes,
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "https://other.example"},
        {"code_challenge_methods_supported": ["plain"]},
        {"code_challenge_methods_supported": None},
        {"token_endpoint": "http://as.example/token"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": "file:///etc/passwd"},
        {"authorization_endpoint": None},
        {"registration_endpoint": "gopher://as.example/"},
        {"token_endpoint": "https://user:pass@as.example/token"},
    ],
)
def test_metadata_that_mislead_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DiscoveryRefused):
        auth_server_of(metadata("https://as.example", **changes), "https://as.example")


@pytest.mark.parametrize(
    "resource",
    [
        "https://evil.example/mcp",
        "https://far.example/mcp/other",
        "https://far.example/mc",
        "http://far.example/mcp",
        None,
    ],
)
def test_metadata_about_another_resource_are_refused(resource: Any) -> None:
    body = {"resource": resource, "authorization_servers": ["https://as.example"]}
    with pytest.raises(DiscoveryRefused):
        resource_of(body, "https://far.example/mcp")


@pytest.mark.parametrize("place", ["resource_metadata", "authorization_servers", "token_endpoint"])
async def test_metadata_cannot_lead_to_a_private_address(place: str) -> None:
    inside = Elsewhere(silent)
    async with inside.running():
        target = inside.url.replace("127.0.0.1", "localhost")

        async def script(request: Request, reply: Reply) -> None:
            if "protected-resource" in request.path:
                issuer = target if place == "authorization_servers" else f"http://127.0.0.1:{far.port}"
                await reply.send(200, {"resource": far.url, "authorization_servers": [issuer]})
            else:
                await reply.send(200, metadata(f"http://127.0.0.1:{far.port}"))

        far = Elsewhere(script)
        async with far.running():
            web = Web(lambda host, port: port == far.port)
            named = target if place == "resource_metadata" else ""
            grant = Grant(far.url, far.url, Client("i", "c"), target, "t", refresh_token="r", expires=1)
            asking = (
                renew(web, grant, 0.0)
                if place == "token_endpoint"
                else discover(web, far.url, Challenge(resource_metadata=named))
            )
            with pytest.raises(AddressDenied):
                await asking
            await web.close()
    assert inside.seen == []


async def silent(request: Request, reply: Reply) -> None:
    await reply.send(404)


async def test_plain_http_to_another_machine_is_refused_for_metadata_too() -> None:
    web = Web(loopback)
    with pytest.raises(RemoteInsecure):
        await discover(web, "https://far.example/mcp", Challenge(resource_metadata="http://far.example/prm"))
    await web.close()


def question(**server: Any) -> tuple[Any, AuthServer]:
    found = auth_server_of(metadata("https://as.example", **server), "https://as.example")
    discovery = Discovery(Resource("https://far.example/mcp", found.issuer), found)
    return question_for(
        discovery, Client(found.issuer, "us", redirect_uri="http://127.0.0.1:5/callback"), ("read",)
    ), found


def test_the_question_has_pkce_state_and_the_resource_and_no_secret_of_either() -> None:
    asked, _ = question()
    sent = {k: v[0] for k, v in parse_qs(urlsplit(asked.url).query).items()}
    assert sent["code_challenge_method"] == "S256"
    assert sent["resource"] == "https://far.example/mcp"
    assert asked.verifier not in asked.url
    assert len(sent["state"]) >= 43


@pytest.mark.parametrize(
    ("answer", "promised"),
    [
        ({"code": "c", "state": "guessed"}, False),
        ({"code": "c"}, False),
        ({"code": "c", "state": "$", "iss": "https://evil.example"}, False),
        ({"code": "c", "state": "$", "iss": "https://as.example/"}, False),  # compared as they are, not as they mean
        ({"code": "c", "state": "$"}, True),
        ({"state": "$", "iss": "https://as.example"}, True),
    ],
)
def test_an_answer_to_another_question_or_from_another_server_is_refused(
    answer: dict[str, str], promised: bool
) -> None:
    asked, server = question(authorization_response_iss_parameter_supported=promised)
    said = {k: v.replace("$", asked.state) for k, v in answer.items()}
    with pytest.raises(RedirectForged):
        code_from(said, asked, server)


async def test_the_listener_takes_one_answer_with_the_right_state_and_nothing_else() -> None:
    shown: list[str] = []
    async with Listener(shown.append) as listener, httpx2.AsyncClient() as browser:
        waiting = asyncio.create_task(listener.answer("https://as.example/", "the-state"))
        await asyncio.sleep(0)
        for path in ("?code=evil&state=guess", "?code=evil", "?code=a&code=b&state=the-state"):
            assert (await browser.get(listener.uri + path)).status_code == 400
        assert (await browser.post(listener.uri + "?code=evil&state=the-state")).status_code == 404
        evil = {"Host": "evil.example"}
        assert (await browser.get(listener.uri + "?code=evil&state=the-state", headers=evil)).status_code == 404
        good = await browser.get(listener.uri + "?code=good&state=the-state")
        assert good.status_code == 200
        assert (await waiting)["code"] == "good"


async def test_nobody_coming_back_is_an_error_in_time() -> None:
    async with Listener(lambda url: None, wait_s=0.01) as listener:
        with pytest.raises(NobodyAnswered):
            await listener.answer("https://as.example/", "s")


async def test_a_token_endpoint_that_redirects_is_not_followed(vault: Vault) -> None:
    trap = Elsewhere(silent)
    async with trap.running():

        async def script(request: Request, reply: Reply) -> None:
            await reply.send(307, Location=trap.url)

        async with Elsewhere(script).running() as far:
            web = Web(loopback)
            grant = Grant(far.url, far.url, Client("i", "c"), far.url, "t", refresh_token="r")
            with pytest.raises(TokenFailed):
                await renew(web, grant, 0.0)
            await web.close()
    assert trap.seen == []


async def test_a_token_for_one_address_is_never_sent_to_another(settings: Settings, vault: Vault, web: Web) -> None:
    vault.save(Grant("https://far.example/mcp", "r", Client("i", "c"), "https://as.example/token", "secret-token"))
    moved = Keeper("far", "https://evil.example/mcp", web, vault, settings.run_dir / "guard")
    assert await moved.headers() == []
    same = Keeper("far", "https://far.example/mcp", web, vault, settings.run_dir / "guard")
    assert await same.headers() == [(b"authorization", b"Bearer secret-token")]


async def test_an_authorization_server_that_is_down_holds_up_one_call_and_no_other(
    settings: Settings, vault: Vault
) -> None:
    tried: list[str] = []

    async def look(host: str, port: int) -> list[Place]:
        tried.append(host)
        raise ResolveFailed(f"{host} cannot be resolved")

    web = Web(loopback, look=look)
    client, token_endpoint = Client("https://as.example", "c"), "https://as.example/token"
    vault.save(Grant("https://far.example/mcp", "r", client, token_endpoint, "old-token", "refresh", expires=100.0))
    keeper = Keeper("far", "https://far.example/mcp", web, vault, settings.run_dir / "guard", clock=lambda: 99.0)
    for _ in range(3):
        assert await keeper.headers() == [(b"authorization", b"Bearer old-token")]
    assert tried == ["as.example"]
    await web.close()


async def test_a_running_gateway_notices_a_login_and_a_logout(settings: Settings, vault: Vault, web: Web) -> None:
    changes = [0]
    guard = settings.run_dir / "guard"
    keeper = Keeper("far", "https://far.example/mcp", web, vault, guard, stamp=lambda: changes[0])
    assert await keeper.headers() == []
    vault.save(Grant("https://far.example/mcp", "r", Client("i", "c"), "https://as.example/token", "secret-token"))
    changes[0] += 1
    assert await keeper.headers() == [(b"authorization", b"Bearer secret-token")]
    assert vault.drop()
    changes[0] += 1
    assert await keeper.headers() == []


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (
            'Bearer error="insufficient_scope", scope="a b", resource_metadata="https://x/y"',
            Challenge("insufficient_scope", ("a", "b"), "https://x/y"),
        ),
        ("bearer scope=a", Challenge("", ("a",))),
        ('Basic realm="scope=\\"x\\"", Bearer realm="r", error="invalid_token"', Challenge("invalid_token")),
        ('DPoP scope="no", Bearer scope="yes"', Challenge("", ("yes",))),
        ('Bearer error_description="scope=evil", scope="good"', Challenge("", ("good",))),
        ("Basic scope=x", Challenge()),
        ("", Challenge()),
    ],
)
def test_a_challenge_is_read_as_the_grammar_says(header: str, expected: Challenge) -> None:
    assert challenge_of(header) == expected
