"""Resource-server mode: what a team's own authorization server says about who calls."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from gateway.authorization.errors import IssuerUnreachable, OAuthInvalid, TokenRefused
from gateway.authorization.keys import FRESH_S, LAST_S, LOOK_AGAIN_S, Keys
from gateway.authorization.oauth import OAuth, OAuthConfig
from gateway.gateway import Gateway
from gateway.remote.net import Web
from gateway.remote.oauth.grant import Vault
from gateway.remote.oauth.login import log_in
from gateway.remote.oauth.redirect import Listener
from gateway.remote.spec import RemoteSpec
from gateway.serve import bind, http_server
from harbourmaster.core.secrets import SecretStore
from harbourmaster.core.settings import Settings
from policies.authorization import CallPolicies, builtin_files
from tests.gateway.harness import Http, World, enveloped, rpc, running, serving, tool_call
from tests.gateway.issuer import AUDIENCE, Issuer, issuing
from tests.gateway.provider import Person, provider

SCOPES = {"mcp:tools": ["list", "call", "get", "read"], "mcp:look": ["list", "call:read-only"]}
INIT = rpc("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}})


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with issuing() as issuer:
        yield issuer


def ada_at(issuer: Issuer) -> str:
    """As policies and the audit know her: a token of ours cannot have that name."""
    return f"ada@{issuer.url.removeprefix('http://')}"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def config(issuer: Issuer, **more: Any) -> OAuthConfig:
    table = {"issuer": issuer.url, "audience": AUDIENCE, "scopes": SCOPES, **more}
    found = OAuthConfig.read(table)
    assert found is not None
    return found


@contextlib.asynccontextmanager
async def oauth(issuer: Issuer, clock: Clock | None = None, **more: Any) -> AsyncIterator[OAuth]:
    known = OAuth(config(issuer, **more), Keys(issuer.url, clock=clock or time.monotonic))
    yield known
    await known.close()


# -- what is believed


async def test_a_token_of_the_issuer_names_its_caller_and_what_they_may_do(issuer: Issuer) -> None:
    async with oauth(issuer) as known:
        who = await known.verify(issuer.token(groups=["ops", 7]).encode())
        assert (who.name, who.scopes, who.issuer) == (ada_at(issuer), {"list", "call", "get", "read"}, issuer.url)
        assert who.groups == {"ops"}
        assert not who.admin
        assert known.known(issuer.token().encode()) is None  # each token is verified itself
        other = await known.verify(issuer.token(client_id="shell").encode())
        assert (other.name, other.key == who.key) == (ada_at(issuer), False)  # of another client: other sessions


@pytest.mark.parametrize(("kind", "algorithm"), [("ec", "ES256"), ("ed", "EdDSA"), ("rsa", "RS256"), ("rsa", "PS256")])
async def test_keys_of_every_kind_are_taken(issuer: Issuer, kind: str, algorithm: str) -> None:
    issuer.add("two", kind)
    async with oauth(issuer) as known:
        assert (await known.verify(issuer.token("two", algorithm).encode())).name == ada_at(issuer)


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "https://elsewhere.example/mcp"},
        {"aud": None},
        {"aud": AUDIENCE + "/"},
        {"iss": "https://elsewhere.example"},
        {"iss": None},
        {"exp": 1},
        {"exp": None},
        {"exp": "soon"},
        {"nbf": 9_999_999_999},
        {"sub": None},
        {"sub": 7},
        {"sub": ""},
    ],
)
async def test_a_token_for_somebody_else_or_of_another_time_is_no_token_here(issuer: Issuer, changes: Any) -> None:
    async with oauth(issuer) as known:
        token = issuer.token(**changes).encode()
        with pytest.raises(TokenRefused):
            await known.verify(token)
        assert known.known(token) is None


def unsigned(header: dict[str, Any], claims: dict[str, Any]) -> bytes:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    return b".".join([*parts, b""])


async def test_tokens_that_are_not_signed_by_the_issuer_are_refused(issuer: Issuer) -> None:
    good = {"iss": issuer.url, "aud": AUDIENCE, "sub": "eve", "exp": time.time() + 600, "scope": "mcp:tools"}
    async with issuing() as stranger, oauth(issuer) as known:
        stranger.url = issuer.url
        public = issuer.keys["one"].public_key()
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        confused = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"one"}').rstrip(b"=")
        body = base64.urlsafe_b64encode(json.dumps(good).encode()).rstrip(b"=")
        import hashlib
        import hmac

        mac = base64.urlsafe_b64encode(hmac.new(pem, confused + b"." + body, hashlib.sha256).digest()).rstrip(b"=")
        head, claims, signature = issuer.token().encode().split(b".")
        forged = base64.urlsafe_b64encode(json.dumps({**good, "sub": "eve"}).encode()).rstrip(b"=")
        for token in (
            stranger.token().encode(),
            unsigned({"alg": "none"}, good),
            b".".join([confused, body, mac]),
            b".".join([head, forged, signature]),
            b".".join([head, claims, b""]),
            issuer.token(typ="logout+jwt").encode(),
            jwt.encode(good, issuer.keys["one"], "ES256", headers={"kid": "unheard-of"}).encode(),
            jwt.encode(good, issuer.keys["one"], "ES256", headers={"kid": "one", "jku": stranger.url}).encode()[:-6],
            jwt.encode(good, issuer.keys["one"], "ES256", headers={"kid": "one", "crit": ["x"], "x": 1}).encode(),
            b"x" * 20_000,
            b"a.b.c",
            b"\xff\xfe",
            b"",
        ):
            with pytest.raises(TokenRefused):
                await known.verify(token)


async def test_scopes_are_translated_and_none_of_the_issuer_s_makes_an_operator_by_its_name(issuer: Issuer) -> None:
    async with oauth(issuer) as known:
        for said, ours in (("mcp:look other", {"list", "call:read-only"}), ("admin call", set()), (None, set())):
            assert (await known.verify(issuer.token(scope=said).encode())).scopes == ours
        assert (await known.verify(issuer.token(scope=None, scp=["mcp:look"]).encode())).scopes >= {"list"}
    async with oauth(issuer, scopes={}) as known:
        assert (await known.verify(issuer.token(scope="admin call list x").encode())).scopes == {"call", "list"}


# -- the issuer's keys


async def test_a_new_key_is_found_and_a_withdrawn_one_no_longer_counts(issuer: Issuer) -> None:
    clock = Clock()
    async with oauth(issuer, clock) as known:
        old = issuer.token().encode()
        await known.verify(old)
        issuer.add("two")
        clock.now += LOOK_AGAIN_S
        assert (await known.verify(issuer.token("two").encode())).name == ada_at(issuer)
        issuer.published.remove("one")
        clock.now += FRESH_S + 1
        await known.verify(issuer.token("two").encode())
        assert known.known(old) is None
        with pytest.raises(TokenRefused):
            await known.verify(old)


async def test_unknown_keys_cannot_make_us_knock_at_the_issuer_s_door(issuer: Issuer) -> None:
    clock = Clock()
    issuer.add("hidden")
    issuer.published.remove("hidden")
    async with oauth(issuer, clock) as known:
        for _ in range(20):
            with pytest.raises(TokenRefused):
                await known.verify(issuer.token("hidden").encode())
        assert issuer.asked == 1
        await asyncio.gather(*(known.verify(issuer.token(sub=f"u{n}").encode()) for n in range(20)))
        assert issuer.asked == 1


async def test_many_callers_wait_for_one_answer(issuer: Issuer) -> None:
    async with oauth(issuer) as known:
        await asyncio.gather(*(known.verify(issuer.token(sub=f"u{n}").encode()) for n in range(20)))
        assert issuer.asked == 1


async def test_an_issuer_that_is_down_is_believed_on_its_last_word_for_a_while(issuer: Issuer) -> None:
    clock = Clock()
    async with oauth(issuer, clock) as known:
        await known.verify(issuer.token().encode())
        issuer.down = True
        clock.now += FRESH_S + 1
        assert (await known.verify(issuer.token().encode())).name == ada_at(issuer)
        clock.now += LAST_S
        with pytest.raises(IssuerUnreachable):
            await known.verify(issuer.token().encode())


@pytest.mark.parametrize(
    "metadata",
    [{"issuer": "https://elsewhere.example"}, {"jwks_uri": 7}, {"jwks_uri": "http://elsewhere.example/keys"}],
)
async def test_metadata_that_is_not_the_issuer_s_own_is_not_followed(issuer: Issuer, metadata: Any) -> None:
    issuer.metadata = metadata
    async with oauth(issuer) as known:
        with pytest.raises(IssuerUnreachable):
            await known.verify(issuer.token().encode())
    assert issuer.asked == 0


@pytest.mark.parametrize(
    "table",
    [
        {"issuer": "https://a.example"},
        {"issuer": "http://a.example", "audience": "https://b.example"},
        {"issuer": "https://a.example", "audience": "https://b.example?x"},
        {"issuer": "https://a.example", "audience": "https://b.example", "algorithms": ["HS256"]},
        {"issuer": "https://a.example", "audience": "https://b.example", "algorithms": ["none"]},
        {"issuer": "https://a.example", "audience": "https://b.example", "scopes": {"x": ["root"]}},
        {"issuer": "https://a.example", "audience": "https://b.example", "isuer": "x"},
    ],
)
def test_a_configuration_that_would_weaken_it_is_refused(table: Any) -> None:
    with pytest.raises(OAuthInvalid):
        OAuthConfig.read(table)


# -- on the wire


@contextlib.asynccontextmanager
async def team(settings: Settings, world: World, issuer: Issuer, **more: Any) -> AsyncIterator[tuple[Gateway, Http]]:
    table = {"issuer": issuer.url, "audience": AUDIENCE, "scopes": SCOPES, **more}
    async with serving(settings.model_copy(update={"oauth": table}), world) as pair:
        yield pair


async def test_a_client_without_a_token_is_led_to_the_issuer(settings: Settings, world: World, issuer: Issuer) -> None:
    async with team(settings, world, issuer) as (_, http):
        refused = await http.request(body=INIT, Authorization=None)
        challenge = refused.headers["www-authenticate"]
        assert refused.status == 401
        assert 'resource_metadata="http://127.0.0.1:8811/.well-known/oauth-protected-resource/mcp"' in challenge
        assert 'scope="mcp:tools mcp:look"' in challenge
        for path in ("/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource"):
            said = await http.request("GET", path, Authorization=None)
            assert said.status == 200
            assert said.json["resource"] == AUDIENCE
            assert said.json["authorization_servers"] == [issuer.url]
            assert said.json["bearer_methods_supported"] == ["header"]
        assert (await http.request("GET", "/.well-known/oauth-protected-resource", Host="evil.example")).status == 421


async def test_tokens_of_the_issuer_and_ours_work_side_by_side(
    settings: Settings, world: World, issuer: Issuer
) -> None:
    async with team(settings, world, issuer) as (_, http):
        ada = Http(http.port, issuer.token())
        session = await ada.initialize()
        assert "result" in await ada.call(session, "tools/call", tool_call("echo"))
        assert world.calls()[-1]["principal"] == ada_at(issuer)
        ours = await http.initialize()
        assert (await ada.request(body=rpc("ping"), Mcp_Session_Id=ours)).status == 404
        renewed = Http(http.port, issuer.token(jti="another"))
        assert (await renewed.call(session, "ping"))["result"] == {}  # the same caller with a newer token
        narrower = Http(http.port, issuer.token(scope="mcp:look"))
        refused = await narrower.request(body=rpc("tools/call", tool_call("echo")), Mcp_Session_Id=session)
        assert refused.json["error"]["data"]["code"] == "auth.denied"
        modern = await ada.modern("tools/call", tool_call("echo"))
        assert modern.json["result"]["content"]


async def test_what_is_refused_on_the_wire(settings: Settings, world: World, issuer: Issuer) -> None:
    async with team(settings, world, issuer, required_scopes=["mcp:tools"]) as (_, http):
        for token, status, code in (
            (issuer.token(aud="https://elsewhere.example"), 401, "auth.invalid"),
            (issuer.token(exp=1), 401, "auth.invalid"),
            ("nonsense", 401, "auth.invalid"),
            ("hm_" + "x" * 43, 401, "auth.invalid"),
            (issuer.token(scope="mcp:look"), 403, "auth.scope"),
        ):
            response = await Http(http.port, token).request(body=INIT)
            assert (response.status, response.json["error"]["data"]["code"]) == (status, code)
            assert "resource_metadata=" in response.headers["www-authenticate"]
        assert 'error="insufficient_scope", scope="mcp:tools"' in response.headers["www-authenticate"]
        issuer.down = True
        async with issuing() as silent:
            silent.down = True
            async with team(settings, world, silent) as (_, other):
                lost = await Http(other.port, silent.token()).request(body=INIT)
                assert (lost.status, lost.json["error"]["data"]["code"]) == (503, "auth.issuer_unreachable")


async def test_a_caller_whose_scopes_do_not_reach_is_told_which_to_ask_for(
    settings: Settings, world: World, issuer: Issuer
) -> None:
    async with team(settings, world, issuer) as (gateway, http):
        looker = Http(http.port, issuer.token(scope="mcp:look"))
        session = await looker.initialize()
        body = rpc("tools/call", tool_call("echo"))
        headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "echo"}
        for response in (
            await looker.request(body=body, Mcp_Session_Id=session),
            await looker.request(body=rpc("tools/call", enveloped(tool_call("echo"))), **headers),
        ):
            assert (response.status, response.json["error"]["data"]["code"]) == (403, "auth.denied")
            assert 'error="insufficient_scope", scope="mcp:tools"' in response.headers["www-authenticate"]
        policy = '@id("own") forbid (principal, action == Action::"call", resource);'
        gateway.decide_by(CallPolicies((*builtin_files(), ("own", policy))))
        refused = await looker.request(body=body, Mcp_Session_Id=session)
        assert (refused.status, "www-authenticate" in refused.headers) == (200, False)  # more scopes would not help


@pytest.mark.npm
async def test_a_client_logs_in_at_a_real_authorization_server_and_calls(
    settings: Settings, world: World, tmp_path: Path
) -> None:
    sock = bind("127.0.0.1", 0)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}/mcp"
    async with provider(tmp_path / "provider", url) as issuer:
        table = {"issuer": issuer, "audience": url, "scopes": {"read": ["list", "call"]}}
        configured = settings.model_copy(update={"oauth": table, "secrets_backend": "age"})
        async with running(configured, world) as gateway, http_server(gateway, configured, sock):
            web = Web(lambda host, port: host == "127.0.0.1")
            vault = Vault(lambda: SecretStore.of(configured), "far")
            async with Listener(Person().show) as listener:
                grant = await log_in(RemoteSpec(url), web, vault, listener)
            await web.close()
            http = Http(sock.getsockname()[1], grant.access_token)
            session = await http.initialize()
            assert "result" in await http.call(session, "tools/call", tool_call("echo"))
            assert "result" in (await http.modern("tools/call", tool_call("echo"))).json
            refused = await http.request(body=rpc("prompts/get", {"name": "greet"}), Mcp_Session_Id=session)
            assert refused.json["error"]["data"]["code"] == "auth.denied"
