"""Bad input over HTTP: each gets the protocol's own error, and nothing of it reaches a server."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.gateway import Gateway
from gateway.limits import LIMITS
from harbourmaster.core.settings import Settings
from tests.gateway.harness import Http, World, enveloped, rpc, serving, tool_call

INIT = rpc("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}})


def code(response: Any) -> str:
    return str(response.json["error"]["data"]["code"])


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer wrong", "Basic aG06aG0=", "bearer hm_x"])
async def test_without_a_known_token_nothing_is_answered(http: Http, authorization: str | None) -> None:
    response = await http.request(body=INIT, Authorization=authorization)
    assert response.status == 401
    assert response.headers["www-authenticate"].startswith("Bearer realm=")
    assert code(response) == ("auth.missing" if authorization is None else "auth.invalid")


async def test_a_revoked_token_stops_working_while_the_gateway_runs(http: Http, gateway: Gateway) -> None:
    token = gateway.tokens.create("laptop")
    assert (await http.request(body=INIT, Authorization=f"Bearer {token}")).status == 200
    gateway.tokens.revoke("laptop")
    assert (await http.request(body=INIT, Authorization=f"Bearer {token}")).status == 401


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8811", "127.0.0.1.evil.example", "[::2]:1", ""])
async def test_other_host_names_are_misdirected(http: Http, host: str) -> None:
    response = await http.request(body=INIT, Host=host)
    assert (response.status, code(response)) == (421, "http.wrong_host")
    assert (await http.request("GET", "/healthz", Host=host)).status == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "[::1]:8811", "127.0.0.1"])
async def test_loopback_names_are_ours(http: Http, host: str) -> None:
    assert (await http.request(body=INIT, Host=host)).status == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost.evil.example", "file://"])
async def test_web_pages_of_other_origins_are_refused(http: Http, origin: str) -> None:
    response = await http.request(body=INIT, Origin=origin)
    assert (response.status, code(response)) == (403, "http.wrong_origin")


async def test_loopback_and_allowed_origins_and_hosts_are_served(settings: Settings, world: World) -> None:
    allowed = settings.model_copy(
        update={"gateway_allowed_origins": ("https://app.example",), "gateway_allowed_hosts": ("mcp.example",)}
    )
    async with serving(allowed, world) as (_, http):
        for origin in ("http://localhost:5173", "https://app.example"):
            assert (await http.request(body=INIT, Origin=origin, Host="mcp.example:80")).status == 200


@pytest.mark.parametrize(
    ("raw", "rpc_code"),
    [
        (b"", -32700),
        (b"{", -32700),
        (b"\xff\xfe", -32700),
        (b'{"a":NaN}', -32700),
        (b"[" * 100_000, -32700),
        (b"null", -32600),
        (b'"text"', -32600),
        (b"{}", -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":7}', -32600),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":{},"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"result":{},"error":{}}', -32600),
    ],
)
async def test_what_is_no_message_gets_the_json_rpc_error(http: Http, raw: bytes, rpc_code: int) -> None:
    session = await http.initialize()
    response = await http.request(body=raw, Mcp_Session_Id=session)
    assert (response.status, response.json["error"]["code"]) == (400, rpc_code)
    assert response.json["jsonrpc"] == "2.0"


async def test_nesting_that_no_parser_survives_is_an_error_and_not_a_crash(http: Http) -> None:
    session = await http.initialize()
    for depth in (300, 2000, 90_000):
        deep = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"a":'
        raw = deep + b"[" * depth + b"]" * depth + b"}}}"
        response = await http.request(body=raw, Mcp_Session_Id=session)
        assert response.status in (200, 400)
        assert "result" in response.json or response.json["error"]["code"] == -32700


async def test_an_oversized_body_is_refused_declared_or_not(http: Http) -> None:
    session = await http.initialize()
    response = await http.request(body=b" " * (LIMITS.body_bytes + 1), Mcp_Session_Id=session)
    assert (response.status, code(response)) == (413, "http.too_large")
    head = [f"{k}: {v}" for k, v in http.headers(Mcp_Session_Id=session, Connection="close").items()]
    reader, writer = await http.open("\r\n".join(["POST /mcp HTTP/1.1", *head, "Transfer-Encoding: chunked", "", ""]))
    chunk = b"%x\r\n" % (1 << 20) + b" " * (1 << 20) + b"\r\n"
    for _ in range(LIMITS.body_bytes // (1 << 20) + 1):
        writer.write(chunk)
    assert b" 413 " in await reader.readline()
    writer.close()


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": None}, 415),
        ({"Accept": "text/html"}, 406),
        ({"Accept": "*/*"}, 200),
        ({"Accept": None}, 200),
        ({"Content_Type": "application/json; charset=utf-8"}, 200),
    ],
)
async def test_content_types_are_checked(http: Http, changes: Any, status: int) -> None:
    assert (await http.request(body=INIT, **changes)).status == status


async def test_other_paths_and_methods_lead_nowhere(http: Http) -> None:
    assert (await http.request(path="/", body=INIT)).status == 404
    assert (await http.request("GET", "/.well-known/oauth-protected-resource")).status == 404
    response = await http.request("PUT", body=INIT)
    assert (response.status, response.headers["allow"]) == (405, "POST, GET, DELETE")
    assert (await http.request("OPTIONS")).status == 405


async def test_health_needs_no_token_and_tells_nothing(http: Http) -> None:
    response = await http.request("GET", "/healthz", Authorization=None)
    assert (response.status, response.json) == (200, {"status": "ok"})


async def test_sessions_are_required_and_known(http: Http) -> None:
    for method, body in (("POST", rpc("ping")), ("GET", None), ("DELETE", None)):
        missing = await http.request(method, body=body)
        assert (missing.status, code(missing)) == (400, "session.missing")
        unknown = await http.request(method, body=body, Mcp_Session_Id="made-up")
        assert (unknown.status, code(unknown)) == (404, "session.unknown")


async def test_a_session_is_unknown_to_every_other_principal(http: Http, gateway: Gateway) -> None:
    session = await http.initialize()
    other = f"Bearer {gateway.tokens.create('other')}"
    for method, body in (("POST", rpc("tools/call", tool_call("counter"))), ("GET", None), ("DELETE", None)):
        response = await http.request(method, body=body, Mcp_Session_Id=session, Authorization=other)
        assert (response.status, code(response)) == (404, "session.unknown")
    assert (await http.call(session, "ping"))["result"] == {}


@pytest.mark.parametrize("name", ["Authorization", "Mcp-Session-Id", "Host", "Content-Type"])
async def test_a_header_that_decides_something_may_not_be_repeated(http: Http, name: str) -> None:
    session = await http.initialize()
    value = {**http.headers(), "Mcp-Session-Id": session}[name]
    response = await http.request(body=rpc("ping"), lines=(f"{name}: {value}",), Mcp_Session_Id=session)
    assert (response.status, code(response)) == (400, "http.repeated_header")


async def test_an_unknown_revision_in_the_header_is_told_which_are_spoken(http: Http) -> None:
    session = await http.initialize()
    note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    response = await http.request(body=note, Mcp_Session_Id=session, **{"MCP-Protocol-Version": "1.0"})
    assert (response.status, response.json["error"]["code"]) == (400, -32022)


async def test_a_modern_body_without_modern_headers_is_a_mismatch(http: Http) -> None:
    response = await http.request(body=rpc("tools/list", enveloped({})))
    assert (response.status, response.json["error"]["code"]) == (400, -32020)


async def test_a_client_that_leaves_in_the_middle_of_its_body_does_no_harm(http: Http) -> None:
    session = await http.initialize()
    head = [f"{k}: {v}" for k, v in http.headers(Mcp_Session_Id=session).items()]
    for part in (b"", b'{"jsonrpc"'):
        _, writer = await http.open("\r\n".join(["POST /mcp HTTP/1.1", *head, "Content-Length: 500", "", ""]), part)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    assert (await http.call(session, "ping"))["result"] == {}


async def test_keep_alive_connections_serve_request_after_request(http: Http) -> None:
    session = await http.initialize()
    reader, writer = await asyncio.open_connection("127.0.0.1", http.port)
    for number in range(3):
        body = json.dumps(rpc("ping", None, number)).encode()
        head = [f"{k}: {v}" for k, v in http.headers(Mcp_Session_Id=session).items()]
        request = "\r\n".join(["POST /mcp HTTP/1.1", *head, f"Content-Length: {len(body)}", "", ""]).encode()
        writer.write(request + body)
        answer = await reader.readuntil(b"}}") if number else await reader.readuntil(b"{}}")
        assert b'"id":%d' % number in answer
    writer.close()
    await writer.wait_closed()


async def test_error_answers_tell_nothing_of_our_insides(http: Http, world: World) -> None:
    session = await http.initialize()
    world.refuse = ZeroDivisionError("of ours")
    reply = await http.call(session, "tools/call", tool_call("echo"))
    assert reply["error"]["message"] == "internal error"
    assert "of ours" not in json.dumps(reply)
