"""The MCP registry API served from the catalog: another registry that copies us gets what we got."""

from __future__ import annotations

import json

import pytest
from registry_server import RegistryServer, item, page

from catalog import service
from catalog.errors import EntryUnknown, QueryInvalid
from catalog.registry_api import OURS, ListRequest, get_version, list_servers, list_versions
from catalog.sources.rawjson import items, members, parse
from catalog.store import Store
from harbourmaster.core.settings import Settings

ODD = (
    '{ "version":"1.0.0" ,\n"name" : "com.example/odd","description":"caf\\u00e9 \\/ ü", "x": 1.50e+3,'
    '"remotes":[{"url":"http://a.example.com/x","type":"sse"}] }'
)
UPSTREAM = [
    item("com.example/a", "1.0.0", latest=False, updated="2026-01-01T00:00:00Z"),
    item("com.example/a", "2.0.0", updated="2026-02-01T00:00:00Z"),
    item("com.example/b", "1.0.0", updated="2026-03-01T00:00:00Z"),
    item("com.example/gone", "1.0.0", status="deleted", updated="2026-04-01T00:00:00Z"),
    item("com.example/odd", server=ODD, updated="2026-05-01T00:00:00Z"),
]


@pytest.fixture
def copied(store: Store) -> Store:
    with RegistryServer(lambda _query: page(*UPSTREAM)) as server:
        service.add_source(store, "upstream", "registry-api", server.address)
        service.sync_source(store, Settings.load(), "upstream")
    return store


def listed(store: Store, **request: object) -> list[tuple[str, str]]:
    with store.reading() as session:
        body = json.loads(list_servers(session, ListRequest(**request)))  # type: ignore[arg-type]
    assert body["metadata"]["count"] == len(body["servers"])
    return [(s["server"]["name"].partition("/")[2], s["server"]["version"]) for s in body["servers"]]


def test_server_objects_go_out_as_the_bytes_they_came_in_as(copied: Store) -> None:
    with copied.reading() as session:
        body = get_version(session, "com.example/odd", "latest")
    parts = members(parse(body))
    assert parts["server"].text == ODD
    meta = members(parts["_meta"])
    assert meta["io.modelcontextprotocol.registry/official"].text in UPSTREAM[-1]
    assert [f["code"] for f in meta[OURS].value["findings"]] == ["remote.address"]


def test_listing_narrows_as_the_specification_says(copied: Store) -> None:
    assert listed(copied) == [("a", "1.0.0"), ("a", "2.0.0"), ("b", "1.0.0"), ("odd", "1.0.0")]
    assert listed(copied, version="latest") == [("a", "2.0.0"), ("b", "1.0.0"), ("odd", "1.0.0")]
    assert listed(copied, version="2.0.0") == [("a", "2.0.0")]
    assert listed(copied, search="EXAMPLE/B") == [("b", "1.0.0")]
    assert listed(copied, search="%") == []
    assert listed(copied, include_deleted=True)[3] == ("gone", "1.0.0")
    assert listed(copied, updated_since="2026-03-15T00:00:00Z") == [("gone", "1.0.0"), ("odd", "1.0.0")]


def test_pages_join_into_the_whole(copied: Store) -> None:
    cursor, found = "", []
    for _ in range(10):
        with copied.reading() as session:
            body = parse(list_servers(session, ListRequest(cursor=cursor, limit=2, include_deleted=True)))
        found += [members(i)["server"].text for i in items(members(body)["servers"])]
        cursor = body.value["metadata"].get("nextCursor", "")
        if not cursor:
            break
    assert len(found) == len(UPSTREAM)
    assert found[-1] == ODD


@pytest.mark.parametrize("cursor", ["nonsense", "W10=", "WzEsMl0=", "é", "WyJhIiwgdHJ1ZV0="])
def test_a_cursor_that_is_none_of_ours_is_refused(copied: Store, cursor: str) -> None:
    with copied.reading() as session, pytest.raises(QueryInvalid, match="cursor"):
        list_servers(session, ListRequest(cursor=cursor))


@pytest.mark.parametrize("limit", [0, -1, 101])
def test_a_limit_out_of_range_is_refused(copied: Store, limit: int) -> None:
    with copied.reading() as session, pytest.raises(QueryInvalid, match="limit"):
        list_servers(session, ListRequest(limit=limit))


def test_versions_of_one_server(copied: Store) -> None:
    with copied.reading() as session:
        body = json.loads(list_versions(session, "com.example/a"))
        assert {s["server"]["version"] for s in body["servers"]} == {"1.0.0", "2.0.0"}
        assert json.loads(get_version(session, "com.example/a", "latest"))["server"]["version"] == "2.0.0"
        for name, version in (("com.example/none", "latest"), ("com.example/a", "9"), ("com.example/gone", "1.0.0")):
            with pytest.raises(EntryUnknown):
                get_version(session, name, version)
        with pytest.raises(EntryUnknown):
            list_versions(session, "com.example/gone")
        assert get_version(session, "com.example/gone", "1.0.0", include_deleted=True)


def test_a_copy_of_a_copy_is_the_same(copied: Store, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Another installation polls what we serve."""

    def answer(query: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        request = ListRequest(
            query.get("cursor", ""), 2, updated_since=query.get("updated_since", ""), include_deleted=True
        )
        with copied.reading() as session:
            return 200, {}, list_servers(session, request)

    second = Store.open(Settings.load(home=tmp_path_factory.mktemp("second")))
    with RegistryServer(answer) as server:
        service.add_source(second, "ours", "registry-api", server.address)
        assert service.sync_source(second, Settings.load(), "ours").read == len(UPSTREAM)
    with second.reading() as session:
        assert members(parse(get_version(session, "com.example/odd", "latest")))["server"].text == ODD
    second.close()
