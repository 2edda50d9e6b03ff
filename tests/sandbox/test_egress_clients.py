"""Ordinary clients that know nothing of relays: Node's fetch, Python's httpx and a PostgreSQL client, in the images of real servers."""

from __future__ import annotations

import asyncio
import datetime
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from harbourmaster.core.settings import Settings
from registry.pipeline import build_all
from registry.schema import load_entries
from sandbox.engine import Engine
from sandbox.profile import Profile
from tests.catalog.conftest import PostgresCluster
from tests.fixtures.known_images import only_known_images
from tests.sandbox.egress_world import World, serving

pytestmark = [pytest.mark.engine, pytest.mark.slow]

FETCH = """
for (const url of process.argv.slice(1)) {
  try { console.log(await (await fetch(url)).text()); } catch (e) { console.log("failed", e.cause?.code ?? e.message); }
}
"""
HTTPX = """
import os, ssl, sys, httpx
trusted = ssl.create_default_context(cadata=os.environ["CA"])
for url in sys.argv[1:]:
    try:
        print(httpx.get(url, verify=trusted).text, flush=True)
    except Exception as e:
        print("failed", type(e).__name__, flush=True)
"""


@pytest.fixture(scope="module")
def images(
    engine: Engine, built_home: Path | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Image IDs of two starter servers: ``HM_TEST_HOME``'s, else built for this run."""
    settings = Settings.load(home=built_home or tmp_path_factory.mktemp("starters"))
    with only_known_images(engine.client, keep=built_home is not None):
        results = build_all(settings, engine, load_entries(settings.servers_dir, ("everything", "fetch", "postgres")))
        names = {"node": "everything", "python": "fetch", "postgres": "postgres"}
        yield {name: results[server].image_id for name, server in names.items()}


@pytest.fixture
async def world(engine: Engine, profile: Profile, tmp_path: Path) -> AsyncIterator[World]:
    world = World(engine, profile, tmp_path)
    yield world
    await world.close()


async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, str]:
    """A server's context for api.test and other.test, and the PEM that its clients trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "api.test")])
    now = datetime.datetime.now(datetime.UTC)
    alternatives = x509.SubjectAlternativeName([x509.DNSName("api.test"), x509.DNSName("other.test")])
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(alternatives, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = signed.public_bytes(serialization.Encoding.PEM)
    form = serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(pem + secret)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context, pem.decode()


async def test_nodes_fetch_reaches_its_host_and_no_other(
    world: World, images: dict[str, str], certificate: tuple[ssl.SSLContext, str]
) -> None:
    async with serving(hello) as plain, serving(hello, ssl=certificate[0]) as tls:
        world.names.put("api.test", [("127.0.0.1", tls)])
        world.names.put("plain.test", [("127.0.0.1", plain)])
        urls = ("https://api.test/", "http://plain.test/", "http://plain.test:81/", "http://other.test/")
        box = await world.box(
            "api.test:443",
            "plain.test:80",
            image=images["node"],
            command=("node", "--input-type=module", "-e", FETCH, "--", *urls),
            env={"NODE_TLS_REJECT_UNAUTHORIZED": "0"},
        )
        said = [await box.line() for _ in urls]
    assert said[:3] == ["hello", "hello", "failed ECONNREFUSED"]
    assert said[3] in ("failed EAI_AGAIN", "failed ENOTFOUND")


async def test_httpx_reaches_its_host_with_verified_tls_and_no_other(
    world: World, images: dict[str, str], certificate: tuple[ssl.SSLContext, str]
) -> None:
    async with serving(hello, ssl=certificate[0]) as tls:
        world.names.put("api.test", [("127.0.0.1", tls)])
        urls = ("https://api.test/", "https://other.test/", "https://127.77.1.1/")
        box = await world.box(
            "api.test:443", image=images["python"], command=("python3", "-c", HTTPX, *urls), env={"CA": certificate[1]}
        )
        said = [await box.line() for _ in urls]
    assert said == ["hello", "failed ConnectError", "failed ConnectError"]
    refused = {r["host"]: r["code"] for r in await world.recorded("refuse", 2)}
    # The listener's own address asks for no server name
    assert refused == {"other.test": "egress.host_denied", "api.test": "egress.name_mismatch"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[PostgresCluster]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("no PostgreSQL in /usr/lib/postgresql (Debian: apt-get install postgresql)")
    cluster = PostgresCluster(found[-1].parent)
    cluster.start()
    yield cluster
    cluster.stop()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


async def query(world: World, image: str, url: str) -> dict[str, Any]:
    """The starter server's answer, in a sandbox with one rule."""
    box = await world.box("db.test:5432", image=image, command=("mcp-server-postgres", url))
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    await box.ask(json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}))
    assert box.sandbox is not None
    box.sandbox.write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
    call = {"name": "query", "arguments": {"sql": "SELECT 6 * 7 AS answer"}}
    reply: dict[str, Any] = json.loads(
        await box.ask(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}))
    )
    return reply


async def test_a_postgresql_client_reaches_its_database_and_no_other(
    world: World, images: dict[str, str], cluster: PostgresCluster
) -> None:
    async def to_database(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(f"{cluster.home}/.s.PGSQL.5432")
        await asyncio.gather(copy(reader, back), copy(there, writer))

    async with serving(to_database) as port:
        world.names.put("db.test", [("127.0.0.1", port)])
        place = f"postgresql://{cluster.user}@{{}}/postgres"
        answer = await query(world, images["postgres"], place.format("db.test:5432"))
        other_port = await query(world, images["postgres"], place.format("db.test:5433"))
        other_host = await query(world, images["postgres"], place.format("other.test:5432"))
    assert "42" in answer["result"]["content"][0]["text"]
    assert "ECONNREFUSED" in json.dumps(other_port)
    assert "ENOTFOUND" in json.dumps(other_host)
    opened = {(r["host"], r["port"]) for r in await world.recorded("open")}
    assert opened == {("db.test", 5432)}


async def test_a_client_that_obeys_proxy_variables_reaches_what_only_a_wildcard_allows(
    world: World, images: dict[str, str], certificate: tuple[ssl.SSLContext, str]
) -> None:
    """A wildcard never reaches a private address, so the proxy's own words must arrive, for both ways of asking."""
    async with serving(hello) as port:
        world.names.put("a.wild.test", [("127.0.0.1", port)])
        urls = ("http://a.wild.test/", "https://a.wild.test/", "http://tame.test/")
        box = await world.box(
            "*.wild.test:80",
            "*.wild.test:443",
            image=images["python"],
            command=("python3", "-c", HTTPX, *urls),
            env={"CA": certificate[1]},
        )
        said = [await box.line()]
        assert said == ["egress.address_denied: a.wild.test resolves to 127.0.0.1, which is not a public address"]
        assert await box.line() == ""
        assert await box.line() == "failed ProxyError"
        assert (await box.line()).startswith("egress.host_denied: no rule of test names tame.test:80")
