"""Publishing to the catalog as to any MCP registry: kept as it was sent, never changed, never in another's place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from registry_server import RegistryServer, item, page

from catalog import service
from catalog.errors import EntryUnknown, EntryUnreadable, NameTaken, PublicationInvalid, VersionPublished
from catalog.publishing import publish, set_status
from catalog.registry_api import ListRequest, get_version, list_servers
from catalog.search.searcher import Searcher, SearchRequest
from catalog.store import Store
from harbourmaster.core.settings import Settings

DIGEST = "sha256:" + "a" * 64
NOW, LATER = "2026-11-21T12:00:00Z", "2026-11-22T12:00:00Z"


def server(version: str = "1.0.0", name: str = "com.example/tide", **more: Any) -> bytes:
    package = {
        "registryType": "oci",
        "identifier": f"ghcr.io/example/tide@{DIGEST}",
        "transport": {"type": "stdio"},
    }
    body = {"name": name, "description": "Tells the tides", "version": version, "packages": [package]}
    return json.dumps(body | more, indent=3).encode()


def latest(store: Store, name: str = "com.example/tide") -> str:
    with store.reading() as session:
        return str(json.loads(get_version(session, name, "latest"))["server"]["version"])


def test_what_is_published_is_served_as_the_bytes_that_were_sent(store: Store, settings: Settings) -> None:
    document = server()
    answer = publish(store, settings, document, now=NOW)
    assert document in answer
    facts = json.loads(answer)["_meta"]["io.modelcontextprotocol.registry/official"]
    assert facts == {"status": "active", "publishedAt": NOW, "updatedAt": NOW, "isLatest": True}
    with store.reading() as session:
        assert document in list_servers(session, ListRequest())
    assert [hit.card.name for hit in Searcher(store).search(SearchRequest("tides")).hits] == ["com.example/tide"]


def test_a_published_version_stays_as_it_is(store: Store, settings: Settings) -> None:
    publish(store, settings, server(), now=NOW)
    with pytest.raises(VersionPublished):
        publish(store, settings, server(description="Something else"), now=LATER)
    with store.reading() as session:
        assert server() in get_version(session, "com.example/tide", "1.0.0")


def test_the_latest_is_the_highest_version_not_the_last_one_sent(store: Store, settings: Settings) -> None:
    for version, wanted in (("1.9.0", "1.9.0"), ("1.10.0", "1.10.0"), ("1.9.1", "1.10.0"), ("2.0.0", "2.0.0")):
        publish(store, settings, server(version), now=NOW)
        assert latest(store) == wanted


def test_nothing_takes_the_place_of_what_another_source_lists(store: Store, settings: Settings) -> None:
    with RegistryServer(lambda _query: page(item("com.example/tide", "1.0.0"))) as upstream:
        service.add_source(store, "upstream", "registry-api", upstream.address)
        service.sync_source(store, settings, "upstream")
    with pytest.raises(NameTaken, match="upstream"):
        publish(store, settings, server("2.0.0"), now=NOW)
    assert latest(store) == "1.0.0"


@pytest.mark.parametrize(
    ("document", "error"),
    [
        (b"not json", EntryUnreadable),
        (b"[]", PublicationInvalid),
        (server(name="no-namespace"), EntryUnreadable),
        (server(name="../../etc/passwd"), EntryUnreadable),
        (server(version=""), EntryUnreadable),
        (server(packages=[{"registryType": "oci", "identifier": "ghcr.io/example/tide:latest"}]), PublicationInvalid),
    ],
)
def test_what_cannot_be_read_or_could_not_run_safely_is_refused_and_leaves_nothing(
    store: Store, settings: Settings, document: bytes, error: type[Exception]
) -> None:
    with pytest.raises(error):
        publish(store, settings, document, now=NOW)
    with store.reading() as session:
        assert json.loads(list_servers(session, ListRequest(include_deleted=True)))["servers"] == []


def test_a_version_is_deprecated_deleted_and_restored_and_copies_of_us_hear_of_it(
    store: Store, settings: Settings
) -> None:
    publish(store, settings, server(), now=NOW)
    answer = set_status(store, settings, "com.example/tide", "1.0.0", "deprecated", "use 2.0", now=LATER)
    facts = json.loads(answer)["_meta"]["io.modelcontextprotocol.registry/official"]
    assert (facts["status"], facts["statusMessage"], facts["publishedAt"]) == ("deprecated", "use 2.0", NOW)
    set_status(store, settings, "com.example/tide", "1.0.0", "deleted", now=LATER)
    with store.reading() as session:
        assert json.loads(list_servers(session, ListRequest()))["servers"] == []
        assert server() in list_servers(session, ListRequest(updated_since=LATER))
    set_status(store, settings, "com.example/tide", "1.0.0", "active", now=LATER)
    assert latest(store) == "1.0.0"
    with pytest.raises(EntryUnknown):
        set_status(store, settings, "com.example/tide", "9.9.9", "deleted", now=LATER)
    with pytest.raises(PublicationInvalid):
        set_status(store, settings, "com.example/tide", "1.0.0", "gone", now=LATER)


def test_the_source_of_published_servers_is_never_read_from_elsewhere(store: Store, settings: Settings) -> None:
    publish(store, settings, server(), now=NOW)
    assert service.sync_source(store, settings, "published").withdrawn == 0
    assert latest(store) == "1.0.0"
