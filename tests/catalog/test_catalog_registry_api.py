"""Another MCP registry, read over HTTP: every edge of its API, and its objects kept to the byte."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from registry_server import Answer, Query, RegistryServer, item, page
from sqlmodel import select

from catalog import service
from catalog.errors import SourceCursorInvalid, SourceUnavailable, SourceUnreadable
from catalog.importer import ImportReport
from catalog.models import CatalogEntry, EntryVersion, FindingRow, Source, Unread
from catalog.sources.rawjson import items, members, parse
from catalog.sources.registry_client import Backoff, checked_address, retry_after
from catalog.store import Store
from harbourmaster.core.settings import Settings

# What a document means has nothing to do with the database that keeps it.
SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


class Waits(list[float]):
    """Instead of sleeping: what was slept."""

    def backoff(self) -> Backoff:
        return Backoff(sleep=self.append, jitter=lambda: 1.0)


@pytest.fixture
def waits() -> Waits:
    return Waits()


Sync = Callable[[], ImportReport]


@pytest.fixture
def connect(store: Store, waits: Waits):  # type: ignore[no-untyped-def]
    def make(server: RegistryServer) -> Sync:
        service.add_source(store, "upstream", "registry-api", server.address)
        return lambda: service.sync_source(store, Settings.load(), "upstream", waits.backoff())

    return make


def entries(store: Store) -> dict[str, CatalogEntry]:
    with store.reading() as session:
        return {e.name: e for e in session.exec(select(CatalogEntry))}


def position(store: Store) -> dict[str, object]:
    with store.reading() as session:
        return session.exec(select(Source)).one().position


def test_pages_are_followed_to_the_end_and_the_next_sync_asks_for_changes_only(store: Store, connect) -> None:  # type: ignore[no-untyped-def]
    def answer(query: Query) -> Answer:
        if query.get("cursor") == "two":
            return page(item("com.example/two", updated="2026-03-01T00:00:00Z"))
        return page(item("com.example/one"), cursor="two")

    with RegistryServer(answer) as server:
        sync = connect(server)
        assert sync().added == 2
        assert sorted(entries(store)) == ["com.example/one", "com.example/two"]
        server.answer = lambda _query: page(item("com.example/two", updated="2026-03-01T00:00:00Z"))
        report = sync()
    assert (report.added, report.changed, report.unchanged) == (0, 0, 1)
    assert server.asked[-1]["updated_since"] == "2026-03-01T00:00:00Z"
    assert all(q["include_deleted"] == "true" for q in server.asked)


def test_a_server_object_is_kept_byte_for_byte(store: Store, connect) -> None:  # type: ignore[no-untyped-def]
    odd = (
        '{ "version":"1.0.0" ,\n\t"name" : "com.example/odd", "description":"caf\\u00e9 \\/ \\ud83d\\ude00 ü",'
        '"x-number": 1.50e+3, "x-big": 12345678901234567890123, "packages":[ ],"remotes":[{"url":"https://a.example.com/x","type":"sse"}] }'
    )
    with RegistryServer(lambda _q: page(item(server=odd))) as server:
        assert connect(server)().added == 1
    with store.reading() as session:
        version = session.exec(select(EntryVersion)).one()
    assert version.document == odd.encode()
    assert json.loads(version.upstream_meta)["io.modelcontextprotocol.registry/official"]["isLatest"] is True
    assert entries(store)["com.example/odd"].description == "café / 😀 ü"


def test_deleted_and_deprecated_states_are_honoured(store: Store, connect) -> None:  # type: ignore[no-untyped-def]
    with RegistryServer(lambda _q: page(item("com.example/a"), item("com.example/b"))) as server:
        sync = connect(server)
        sync()
        server.answer = lambda _q: page(
            item("com.example/a", status="deleted"), item("com.example/b", status="deprecated")
        )
        assert sync().changed == 2
        assert {n: e.status for n, e in entries(store).items()} == {
            "com.example/a": "deleted",
            "com.example/b": "deprecated",
        }
        server.answer = lambda _q: page(item("com.example/a"))
        sync()
    assert entries(store)["com.example/a"].status == "active"


def test_the_entry_shows_its_latest_version_whatever_the_order(store: Store, connect) -> None:  # type: ignore[no-untyped-def]
    old = item("com.example/a", "1.0.0", latest=False, more=', "title": "Old"')
    new = item("com.example/a", "2.0.0", more=', "title": "New"')
    older = item("com.example/a", "0.9.0", latest=False, more=', "title": "Oldest"')
    with RegistryServer(lambda _q: page(old, new, older)) as server:
        connect(server)()
    assert entries(store)["com.example/a"].title == "New"
    with store.reading() as session:
        assert {v.version: v.is_latest for v in session.exec(select(EntryVersion))} == {
            "0.9.0": False,
            "1.0.0": False,
            "2.0.0": True,
        }


def test_a_sync_that_breaks_goes_on_at_the_page_where_it_stopped(store: Store, connect) -> None:  # type: ignore[no-untyped-def]
    broken = True

    def answer(query: Query) -> Answer:
        if query.get("cursor") != "two":
            return page(item("com.example/a"), cursor="two")
        return (403, {}, b'{"error": "go away"}') if broken else page(item("com.example/b"))

    with RegistryServer(answer) as server:
        sync = connect(server)
        with pytest.raises(SourceUnreadable, match="go away"):
            sync()
        assert position(store)["cursor"] == "two"
        broken = False
        assert sync().added == 1
    assert server.asked[-1]["cursor"] == "two"
    assert sorted(entries(store)) == ["com.example/a", "com.example/b"]


def test_a_cursor_that_the_registry_no_longer_knows_starts_the_listing_over(store: Store, connect) -> None:  # type: ignore[no-untyped-def]
    def answer(query: Query) -> Answer:
        if query.get("cursor") == "stale":
            return 400, {}, b'{"error": "Invalid cursor"}'
        return page(item("com.example/a"), cursor="" if len(server.asked) > 1 else "stale")

    with RegistryServer(answer) as server:
        assert connect(server)().read == 2
    assert [q.get("cursor") for q in server.asked] == [None, "stale", None]


def test_a_registry_that_refuses_its_own_cursors_again_and_again_is_given_up(store: Store, connect) -> None:  # type: ignore[no-untyped-def]
    def answer(query: Query) -> Answer:
        return (400, {}, b'{"error": "Invalid cursor"}') if "cursor" in query else page(item(), cursor="x")

    with RegistryServer(answer) as server, pytest.raises(SourceCursorInvalid):
        connect(server)()


def test_pages_that_run_in_a_circle_are_noticed(store: Store, connect) -> None:  # type: ignore[no-untyped-def]
    with (
        RegistryServer(lambda _q: page(item(), cursor="again")) as server,
        pytest.raises(SourceUnreadable, match="circle"),
    ):
        connect(server)()


def test_a_busy_registry_is_asked_again_later_and_later(store: Store, connect, waits: Waits) -> None:  # type: ignore[no-untyped-def]
    answers = [(503, {}, b""), (500, {}, b""), (429, {"Retry-After": "7"}, b""), page(item())]
    with RegistryServer(lambda _q: answers.pop(0)) as server:
        assert connect(server)().added == 1
    assert waits == [1.0, 2.0, 7.0]


def test_a_registry_that_stays_away_is_remembered_with_the_reason_and_a_later_date(
    store: Store, connect, waits: Waits
) -> None:  # type: ignore[no-untyped-def]
    with RegistryServer(lambda _q: (502, {}, b"")) as server:
        sync = connect(server)
        for _ in range(2):
            with pytest.raises(SourceUnavailable, match="502"):
                sync()
    with store.reading() as session:
        source = session.exec(select(Source)).one()
    assert source.attempts == 2
    assert source.last_error.startswith("source.unavailable")
    assert source.next_attempt_at > service.utc_now()
    assert service.due_sources(store, service.utc_now()) == []
    assert service.due_sources(store, "2999-01-01T00:00:00Z") == ["upstream"]
    assert len(waits) == 8


def test_an_address_where_nobody_listens_is_unavailable(store: Store, connect, waits: Waits) -> None:  # type: ignore[no-untyped-def]
    with RegistryServer(lambda _q: page()) as server:
        sync = connect(server)
    with pytest.raises(SourceUnavailable, match="5 attempts"):
        sync()


def test_a_redirect_is_not_followed(store: Store, connect) -> None:  # type: ignore[no-untyped-def]
    with RegistryServer(lambda _q: (302, {"Location": "http://169.254.169.254/"}, b"")) as server:
        with pytest.raises(SourceUnreadable, match="302"):
            connect(server)()
        assert len(server.asked) == 1


@SQLITE
@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b'{"servers": 3}', b'{"servers": []} trailing', b"\xff", b"[" * 100_000]
)
def test_what_is_no_page_is_refused(store: Store, connect, body: bytes) -> None:  # type: ignore[no-untyped-def]
    with RegistryServer(lambda _q: (200, {}, body)) as server, pytest.raises(SourceUnreadable):
        connect(server)()


@SQLITE
@pytest.mark.parametrize(
    "bad",
    [
        '{"_meta": {}}',
        '{"server": []}',
        '{"server": {"name": "no-slash", "version": "1"}}',
        '{"server": {"name": "com.example/../../etc", "version": "1"}}',
        '{"server": {"name": "com.example/a b", "version": "1"}}',
        '{"server": {"name": "com.example/none"}}',
        '"text"',
        "null",
        item("com.example/odd", status="vanished"),
    ],
)
def test_one_bad_item_is_named_and_the_rest_of_its_page_is_read(store: Store, connect, bad: str) -> None:  # type: ignore[no-untyped-def]
    with RegistryServer(lambda _q: page(bad, item("com.example/good"))) as server:
        report = connect(server)()
    assert [u.code for u in report.unread] == ["entry.unreadable"]
    assert list(entries(store)) == ["com.example/good"]
    with store.reading() as session:
        assert session.exec(select(Unread)).one().message


@SQLITE
@pytest.mark.parametrize(
    ("packages", "codes"),
    [
        (
            '{"registryType": "oci", "identifier": "docker.io/x/y", "version": "1.0", "transport": {"type": "stdio"}}',
            {"image.undigested"},
        ),
        ('{"registryType": "oci", "identifier": "docker.io/x/y@sha256:%s"}' % ("a" * 64), set()),
        ('{"registryType": "oci", "identifier": "not an image"}', {"image.invalid"}),
        ('{"registryType": "npm", "identifier": "@x/y", "version": "1.2.3"}', {"package.not_an_image"}),
        (
            '{"registryType": "pypi", "identifier": "x", "version": "^1.0"}',
            {"package.not_an_image", "package.unpinned"},
        ),
        (
            '{"registryType": "npm", "identifier": "x", "version": "latest"}',
            {"package.not_an_image", "package.unpinned"},
        ),
        (
            '{"registryType": "mcpb", "identifier": "https://e.com/x.mcpb", "version": "1"}',
            {"package.not_an_image", "package.unhashed"},
        ),
        (
            '{"registryType": "oci", "identifier": "x/y@sha256:%s", "runtimeArguments": '
            '[{"type": "named", "name": "--privileged"}, {"type": "named", "name": "-v", "value": "/:/host"},'
            ' {"type": "positional", "value": "--network=host"}]}' % ("a" * 64),
            {"arguments.dangerous"},
        ),
        (
            '{"registryType": "oci", "identifier": "x/y@sha256:%s", "environmentVariables": [{"name": "A B"}]}'
            % ("a" * 64),
            {"secret.env"},
        ),
    ],
)
def test_a_package_that_cannot_run_safely_says_why(store: Store, connect, packages: str, codes: set[str]) -> None:  # type: ignore[no-untyped-def]
    text = f'{{"name": "com.example/p", "description": "d", "version": "1.0.0", "packages": [{packages}]}}'
    with RegistryServer(lambda _q: page(item(server=text))) as server:
        connect(server)()
    with store.reading() as session:
        assert {f.code for f in session.exec(select(FindingRow))} == codes
    assert entries(store)["com.example/p"].runnable is (not codes)


@SQLITE
@pytest.mark.parametrize(
    ("url", "runnable"),
    [
        ("https://mcp.example.com/{tenant}/mcp", True),
        ("https://{tenant}.example.com/mcp", False),
        ("{tenant}", False),
        ("https://mcp.example.com/{other}", False),
        ("http://mcp.example.com/", False),
        ("https://10.0.0.1/", False),
    ],
)
def test_a_remote_may_have_variables_but_not_for_its_host(store: Store, connect, url: str, runnable: bool) -> None:  # type: ignore[no-untyped-def]
    text = (
        f'{{"name": "com.example/r", "description": "d", "version": "1", "remotes": [{{"type": "sse", "url": "{url}",'
        f' "variables": {{"tenant": {{"isSecret": true}}}}}}]}}'
    )
    with RegistryServer(lambda _q: page(item(server=text))) as server:
        connect(server)()
    entry = entries(store)["com.example/r"]
    assert entry.runnable is runnable
    assert entry.needs_secrets is True


def test_several_packages_and_remotes_are_one_entry(store: Store, connect) -> None:  # type: ignore[no-untyped-def]
    text = (
        '{"name": "io.github.someone/many", "description": "d", "version": "1", "packages": ['
        '{"registryType": "npm", "identifier": "a", "version": "1.0.0"},'
        '{"registryType": "oci", "identifier": "ghcr.io/someone/many@sha256:%s"}],'
        '"remotes": [{"type": "sse", "url": "https://mcp.example.com/"}]}' % ("b" * 64)
    )
    with RegistryServer(lambda _q: page(item(server=text))) as server:
        connect(server)()
    entry = entries(store)["io.github.someone/many"]
    assert (entry.publisher, entry.kind) == ("someone", "server")


@pytest.mark.parametrize(
    "address", ["ftp://x", "http://example.com", "https://", "https://u:p@h/", "https://h/?q=1", "nonsense"]
)
def test_only_https_or_this_machine_is_an_address(address: str) -> None:
    with pytest.raises(SourceUnreadable):
        checked_address(address)


def test_retry_after_is_seconds_or_a_date() -> None:
    assert retry_after("12", 0) == 12
    assert retry_after("Thu, 01 Jan 1970 00:00:30 GMT", 10) == 20
    assert retry_after("Thu, 01 Jan 1970 00:00:30 GMT", 40) == 0
    assert retry_after("soon", 0) is None
    assert retry_after(None, 0) is None


@pytest.mark.parametrize(
    "text", ['{"a":[1,{"b":"]}"}],"c":{}}', "[ ]", "{ }", '[[],"\\"",{"k":null}]', ' {"x" : 1 , "y":[true ,false]} ']
)
def test_values_are_cut_out_as_they_were_written(text: str) -> None:
    raw = parse(text.encode())
    assert raw.text == text.strip()
    parts = list(members(raw).values()) or items(raw)
    assert all(json.loads(p.text) == p.value and p.text in text for p in parts)
