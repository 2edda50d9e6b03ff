"""The gateway's pure core: names, index, eras, messages."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest

from gateway import eras
from gateway.errors import BadRequest, UnknownResource, UnknownTool, wire_error
from gateway.index import Index, build
from gateway.messages import NOTIFICATION, REQUEST, RESPONSE, decode, encode, kind_of
from gateway.names import public_names, public_uris
from harbourmaster.core.errors import HarbourError, NotFoundError, RefusedError
from tests.gateway import backend
from tests.gateway.harness import enveloped, locked

CLIENT_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
INFO = {"name": "harbourmaster", "version": "0"}


def index(**servers: Any) -> Index:
    return build({name: locked(name, backend.listing(name, **parts)) for name, parts in servers.items()}, INFO)


# -- names


def test_a_name_is_bare_while_one_server_has_it_and_qualified_for_all_when_two_do() -> None:
    assert public_names([("a", "x"), ("b", "y")]) == {("a", "x"): "x", ("b", "y"): "y"}
    assert public_names([("a", "x"), ("b", "x")]) == {("a", "x"): "a__x", ("b", "x"): "b__x"}


@pytest.mark.parametrize("name", ["with space", "dotted.name", "é", "x" * 65, "", "a/b", "\ud83d"])
def test_names_that_clients_refuse_are_rewritten_differently_for_different_names(name: str) -> None:
    one = public_names([("a", name)])[("a", name)]
    two = public_names([("a", name + "!")])[("a", name + "!")]
    assert CLIENT_NAME.fullmatch(one)
    assert one != two


def test_no_two_names_are_ever_the_same_whatever_servers_call_their_tools() -> None:
    rng = random.Random(7)
    parts = ["a", "b", "a__b", "a_b", "a.b", "b__x", "x" * 64, "x" * 70, "é", "ä", "__"]
    for _ in range(300):
        owned = [
            (rng.choice(["a", "b", "a--b"]), rng.choice(parts) + rng.choice(parts)) for _ in range(rng.randrange(9))
        ]
        names = public_names(owned)
        assert len(set(names.values())) == len(names) == len(set(owned))
        assert all(CLIENT_NAME.fullmatch(n) for n in names.values())
        rng.shuffle(owned)
        assert public_names(owned) == names, "the same whatever the order"


def test_uris_that_collide_say_whose_they_are() -> None:
    assert public_uris([("a", "f:/1"), ("b", "f:/1"), ("b", "f:/2")]) == {
        ("a", "f:/1"): "a+f:/1",
        ("b", "f:/1"): "b+f:/1",
        ("b", "f:/2"): "f:/2",
    }
    assert public_uris([("9a", "f:/1"), ("b", "f:/1")])["9a", "f:/1"] == "s9a+f:/1", "a scheme begins with a letter"


# -- the index


def test_lists_are_ready_bytes_with_every_field_the_servers_wrote() -> None:
    made = index(alpha={})
    tools = json.loads(made.handshake_lists["tools/list"])["tools"]
    assert tools == backend.TOOLS
    assert json.loads(made.modern_lists["tools/list"])["tools"] == backend.TOOLS


def test_a_qualified_name_is_understood_even_where_the_bare_one_is_listed() -> None:
    made = index(alpha={})
    assert made.tool("alpha__echo") == made.tool("echo")
    with pytest.raises(UnknownTool):
        made.tool("beta__echo")


def test_a_tool_that_is_called_like_another_s_qualified_name_does_not_take_its_place() -> None:
    made = index(alpha={"tools": [backend.tool("x")]}, beta={"tools": [backend.tool("alpha__x")]})
    assert made.tool("alpha__x").server == "beta", "a listed name wins over an alias"
    assert made.tool("x").server == "alpha"


def test_a_server_that_lists_a_name_twice_has_it_once() -> None:
    made = index(alpha={"tools": [backend.tool("x", n=1), backend.tool("x", n=2)]})
    assert [t["n"] for t in json.loads(made.handshake_lists["tools/list"])["tools"]] == [1]


def test_resources_are_found_by_uri_by_template_by_scheme_or_not_at_all() -> None:
    made = index(alpha={}, beta={"resources": [{"uri": "pic://a", "name": "a"}], "resourceTemplates": []})
    assert made.resource("note://one").server == "alpha"
    assert made.resource("note://by/ada").server == "alpha"
    assert made.resource("pic://unlisted").server == "beta"
    with pytest.raises(UnknownResource):
        made.resource("odd://x")


def test_capabilities_are_what_any_server_can_do() -> None:
    made = index(alpha={"capabilities": {"resources": {"subscribe": True}}}, beta={"capabilities": {"logging": {}}})
    assert made.capabilities["resources"] == {"listChanged": True, "subscribe": True}
    assert "logging" in made.capabilities
    assert "completions" not in made.capabilities
    empty = build({}, INFO)
    assert empty.capabilities["tools"] == {"listChanged": True}, "a server enabled later fills the list"
    assert json.loads(empty.handshake_lists["tools/list"]) == {"tools": []}


# -- messages


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":12345678901234567890123}',
        b'{"a":-9999999999999999999}',
        b'{"a":18446744073709551616}',
        b'{"a":"\\ud83d"}',
        b'{"a":[' + b"[" * 400 + b"]" * 400 + b"]}",
        b'{"a":1.0,"b":"\xc3\xa9","c":1e300}',
    ],
)
def test_what_is_decoded_and_encoded_again_is_the_same(raw: bytes) -> None:
    assert json.loads(encode(decode(raw))) == json.loads(raw)
    assert b"1.8446744073709552e+19" not in encode(decode(raw))


def test_a_repeated_key_means_one_thing_behind_the_gateway_too() -> None:
    assert encode(decode(b'{"name":"safe","name":"evil"}')) == b'{"name":"evil"}'


def test_kinds_of_messages() -> None:
    assert kind_of({"jsonrpc": "2.0", "id": 0, "method": "m"}) == REQUEST
    assert kind_of({"jsonrpc": "2.0", "method": "m"}) == NOTIFICATION
    assert kind_of({"jsonrpc": "2.0", "id": None, "error": {}}) == RESPONSE


def test_errors_carry_our_code_and_remedy_and_nothing_else() -> None:
    class Odd(NotFoundError):
        code = "odd"

    assert wire_error(Odd("gone", remedy="look", secret="x")) == {
        "code": -32602,
        "message": "gone",
        "data": {"code": "odd", "remedy": "look"},
    }
    assert wire_error(RefusedError("no"))["code"] == -32010
    assert wire_error(HarbourError("hm"))["code"] == -32603
    assert wire_error(KeyError("secret")) == {"code": -32603, "message": "internal error", "data": {"code": "internal"}}


# -- eras: ours and the SDK's ladder agree

BASE = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": "echo"}
PREFIX = "io.modelcontextprotocol/"


def variations() -> list[tuple[Any, dict[str, str] | None]]:
    good = enveloped({"name": "echo"})
    meta = good["_meta"]
    bodies: list[Any] = [
        None,
        {},
        {"_meta": None},
        {"_meta": {}},
        {"_meta": {PREFIX + "protocolVersion": "2026-07-28"}},
        good,
        {"_meta": meta},
        {**good, "name": 7},
        {**good, "_meta": {**meta, PREFIX + "protocolVersion": "1999"}},
        {**good, "_meta": {**meta, PREFIX + "protocolVersion": None}},
        {**good, "_meta": {**meta, PREFIX + "clientInfo": None}},
    ]
    headers: list[dict[str, str] | None] = [None, {}, BASE]
    headers += [{k: v for k, v in BASE.items() if k != gone} for gone in BASE]
    headers += [{**BASE, "mcp-name": n} for n in ("other", "=?base64?ZWNobw==?=", "=?base64?ZWNob?=", "=?base64?!?=")]
    headers += [{**BASE, "mcp-protocol-version": "1999"}, {**BASE, "mcp-method": "tools/list"}]
    return [(body, header) for body in bodies for header in headers]


@pytest.mark.parametrize("method", ["tools/call", "tools/list", "resources/read"])
def test_our_ladder_gives_the_sdk_s_verdicts(method: str) -> None:
    from mcp.shared.inbound import InboundLadderRejection, classify_inbound_request

    for params, headers in variations():
        theirs = classify_inbound_request({"method": method, "params": params}, headers=headers)
        expected = theirs.code if isinstance(theirs, InboundLadderRejection) else 0
        try:
            eras.envelope(params, method, headers.get if headers is not None else None)
            ours = 0
        except BadRequest as e:
            ours = e.rpc
        assert ours == expected, (params, headers)


def test_statuses_and_parameters_are_the_sdk_s() -> None:
    from mcp.shared.inbound import ERROR_CODE_HTTP_STATUS, NAME_BEARING_METHODS

    assert dict(eras.HTTP_STATUS) == dict(ERROR_CODE_HTTP_STATUS)
    assert dict(eras.NAME_PARAMETER) == dict(NAME_BEARING_METHODS)
