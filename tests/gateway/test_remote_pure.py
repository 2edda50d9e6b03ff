"""The parts of remote servers that need no network: addresses, headers, event streams; and TLS on loopback."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.remote.errors import RemoteInsecure, RemoteInvalid, RemoteTooLarge, RemoteUnreachable
from gateway.remote.headers import Routing
from gateway.remote.net import Stream, Web, only
from gateway.remote.oauth.grant import Client, Grant, grant_from
from gateway.remote.spec import checked_url, endpoint_of, fill, origin_of, parse
from gateway.remote.sse import Events
from sandbox.egress.errors import AddressDenied
from sandbox.egress.resolver import Place

# -- addresses


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.example/",
        "https://",
        "https:///path",
        "https://user@a.example/",
        "https://a.example/#part",
        "https://a.example/a b",
        "https://a.example/\n",
        "https://ä.example/",
        "https://a.example:99999/",
        "javascript:alert(1)",
        "https://a.example/" + "x" * 3000,
    ],
)
def test_what_is_no_address_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(RemoteInvalid):
        checked_url(url)


def test_plain_http_is_for_this_machine_alone() -> None:
    for url in ("http://127.0.0.1:1/", "http://localhost/", "http://[::1]:5/", "http://a.localhost/"):
        checked_url(url)
    for url in ("http://a.example/", "http://10.0.0.1/", "http://localhost.evil.example/", "http://0.0.0.0/"):
        with pytest.raises(RemoteInsecure):
            checked_url(url)


def test_origins_and_endpoints_know_the_usual_ports() -> None:
    assert endpoint_of("https://A.example/x") == "a.example:443"
    assert origin_of("https://a.example:443/x") == origin_of("https://a.example/y")
    assert origin_of("https://a.example") != origin_of("https://a.example:444")


@pytest.mark.parametrize(
    "place",
    [
        "10.0.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "192.168.1.1",
        "::1",
        "fd00::1",
        "fe80::1",
        "::ffff:10.0.0.1",
        "0.0.0.0",
    ],
)
async def test_a_name_that_resolves_to_a_private_address_is_not_dialled(place: str) -> None:
    async def look(host: str, port: int) -> list[Place]:
        return [Place(10 if ":" in place else 2, place, port)]

    web = Web(only(frozenset()), look=look)
    with pytest.raises(AddressDenied):
        async with web.request("GET", "https://rebound.example/", [], read_s=1):
            raise AssertionError("it was dialled")
    await web.close()


async def test_metadata_services_are_never_dialled_whatever_the_entry_says() -> None:
    web = Web(lambda host, port: True)
    with pytest.raises(AddressDenied):
        async with web.request("GET", "https://169.254.169.254/latest", [], read_s=1):
            raise AssertionError("it was dialled")
    await web.close()


# -- headers


def test_templates_are_filled_from_secrets_and_cannot_break_the_line() -> None:
    assert fill({"X-Key": "a ${K}"}, {"K": "v"}) == [(b"x-key", b"a v")]
    for bad in ("v\r\nHost: evil", "v\0", "ü", "x" * 9000):
        with pytest.raises(RemoteInvalid) as caught:
            fill({"X-Key": "${K}"}, {"K": bad})
        assert bad not in caught.value.message
    with pytest.raises(RemoteInvalid):
        fill({"X-Key": "${MISSING}"}, {})


@pytest.mark.parametrize("name", ["Host", "Mcp-Session-Id", "mcp-param-x", "Content-Length", "bad name", ""])
def test_headers_of_the_protocol_are_not_the_entrys_to_set(name: str) -> None:
    with pytest.raises(RemoteInvalid):
        parse({"url": "https://a.example/", "headers": {name: "x"}})


def test_an_entry_survives_the_way_to_the_lock_and_back() -> None:
    body = {
        "url": "https://a.example/mcp",
        "transport": "sse",
        "headers": {"X-A": "${B}"},
        "private": ["a.example:443"],
        "oauth": {"client_id": "c", "client_metadata_url": "https://b.example/c.json", "scopes": ["read"]},
    }
    assert parse(parse(body).as_dict()) == parse(body)
    del body["headers"]
    with pytest.raises(RemoteInvalid):
        parse({**body, "headers": {"Authorization": "x"}})


def test_routing_headers_repeat_name_and_annotated_arguments() -> None:
    schema = {"type": "object", "properties": {"where": {"type": "string", "x-mcp-header": "Where"}}}
    routing = Routing([{"name": "region", "inputSchema": schema}])
    params = {"name": "region", "arguments": {"where": "Zürich"}}
    sent = dict(routing.modern({"method": "tools/call", "params": params}))
    assert sent[b"mcp-name"] == b"region"
    assert sent[b"Mcp-Param-Where"].startswith(b"=?base64?")
    bad = Routing([{"name": "region", "inputSchema": {"type": "object", "x-mcp-header": "Where"}}])
    assert b"Mcp-Param-Where" not in dict(bad.modern({"method": "tools/call", "params": params}))


# -- event streams


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_are_the_same_however_the_bytes_arrive(size: int) -> None:
    raw = (
        b"\xef\xbb\xbf: hello\r\n\r\nid: 1\r\nevent: endpoint\r\ndata: /a\r\n\r\n"
        b"id: 2\ndata: one\ndata: two\n\ndata\n\nretry: 250\rid: 3\rdata:x\r\r"
        b"id: a\0b\ndata:  y\n\nretry: soon\nevent: none\n\n"
    )
    events, found = Events(), []
    for i in range(0, len(raw), size):
        found += [(e.name, e.data) for e in events.feed(raw[i : i + size])]
    assert found == [
        ("endpoint", b"/a"),
        ("message", b"one\ntwo"),
        ("message", b""),
        ("message", b"x"),
        ("message", b" y"),
    ]
    assert (events.last_id, events.retry_ms) == ("3", 250)


def test_an_endless_line_and_an_endless_event_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.remote.sse.MAX_LINE_BYTES", 100)
    with pytest.raises(RemoteTooLarge):
        Events().feed(b"data: " + b"x" * 200)
    events = Events()
    with pytest.raises(RemoteTooLarge):
        for _ in range(50):
            events.feed(b"data: xxxxxxxx\n")


# -- grants


def test_a_grant_survives_the_store_and_hides_its_tokens() -> None:
    client = Client(
        "https://as.example", "id", "client-secret", "client_secret_post", "http://127.0.0.1:5/callback", True
    )
    grant = Grant("https://a.example", "https://a.example", client, "https://as.example/t", "tok", "ref", 5.0, ("a",))
    assert Grant.from_json(grant.to_json()) == grant
    assert not {"tok", "ref", "client-secret"} & set(repr(grant).replace("'", " ").split())
    for bad in ("", "[]", "{}", '{"version": 2}', '{"version": 1, "client": {}}'):
        with pytest.raises(ValueError, match=r"\w"):
            Grant.from_json(bad)


@pytest.mark.parametrize(
    ("answer", "accepted"),
    [
        ({"access_token": "t", "token_type": "Bearer"}, True),
        ({"access_token": "t", "token_type": "bearer", "expires_in": "60"}, True),
        ({"access_token": "t", "token_type": "mac"}, False),
        ({"access_token": "t"}, False),
        ({"access_token": "t\r\nHost: evil", "token_type": "Bearer"}, False),
        ({"access_token": 7, "token_type": "Bearer"}, False),
        ({"token_type": "Bearer"}, False),
    ],
)
def test_only_a_bearer_token_that_a_header_can_carry_is_taken(answer: dict[str, Any], accepted: bool) -> None:
    before = Grant("u", "r", Client("i", "c"), "t", "old", "refresh", scopes=("a",))
    found = grant_from(answer, before, 100.0)
    assert (found is not None) == accepted
    if found is not None:
        assert (found.refresh_token, found.scopes) == ("refresh", ("a",))
        assert found.expires == (160.0 if "expires_in" in answer else 0.0)


# -- TLS


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for ``name``, signed by itself; and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(minutes=10))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.2"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_file, key_file


async def test_tls_is_checked_for_the_name_whatever_address_was_dialled(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "far.example")
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(cert, key)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
        await writer.drain()
        writer.close()

    async def look(host: str, port: int) -> list[Place]:
        return [Place(2, "127.0.0.1", port)]

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=serving)
    port = server.sockets[0].getsockname()[1]
    trusting = ssl.create_default_context(cafile=str(cert))
    web = Web(lambda host, _: True, look=look, tls=trusting)
    async with server:
        async with web.request("GET", f"https://far.example:{port}/", [], read_s=5) as response:
            assert await response.body(10) == b"hi"
        with pytest.raises(RemoteUnreachable, match="certificate"):
            async with web.request("GET", f"https://other.example:{port}/", [], read_s=5):
                raise AssertionError("another name was accepted")
        strangers = Web(lambda host, _: True, look=look)
        with pytest.raises(RemoteUnreachable, match="certificate"):
            async with strangers.request("GET", f"https://far.example:{port}/", [], read_s=5):
                raise AssertionError("a certificate that nobody vouches for was accepted")
        await strangers.close()
        await web.close()


async def test_a_goodbye_that_was_interrupted_can_be_said_again() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        stream = Stream(*await asyncio.open_connection(*server.sockets[0].getsockname()))
        leaving = asyncio.create_task(stream.aclose())
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        await stream.aclose()
