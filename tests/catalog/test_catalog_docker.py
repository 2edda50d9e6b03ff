"""Docker's catalog: what we export loads back equal, here and as their gateway would read it; what they cannot say is named."""

from __future__ import annotations

import contextlib
import select as select_module
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from sqlmodel import select

from catalog import service
from catalog.export import Exported, export_tiles
from catalog.models import CatalogEntry, EntryVersion, FindingRow
from catalog.records import UnreadRecord
from catalog.sources.docker_catalog import catalog_yaml, read_catalog_file, read_tile
from catalog.sources.documents import parse_yaml
from catalog.sources.folder import read_folder
from catalog.sources.oci_artifact import ARTIFACT_TYPE, artifact_layer, push_artifact, read_artifact, read_layer
from catalog.sources.tiles import tile_of
from catalog.store import Store
from harbourmaster.core.settings import Settings
from policies.trust import TrustPolicy

DIGEST = "sha256:" + "a" * 64
FULL: dict[str, Any] = {
    "title": "Full: every key",
    "description": "Line one\nline two with \u2014 dash, 'quotes', \"more\" and # no comment",
    "type": "server",
    "image": f"ghcr.io/someone/full@{DIGEST}",
    "ref": "",
    "dateAdded": "2025-05-05T20:19:57Z",
    "readme": "https://example.com/readme.md",
    "toolsUrl": "https://example.com/tools.json",
    "source": f"https://github.com/someone/full/tree/{'c' * 40}",
    "upstream": "https://github.com/someone/full",
    "icon": "https://example.com/icon.png",
    "tools": [
        {"name": "one", "description": "First", "arguments": [{"name": "a", "type": "string", "desc": "an a"}]},
        {"name": "two"},
    ],
    "secrets": [{"name": "full.key", "env": "FULL_KEY", "example": "<key>", "required": False}],
    "oauth": {"providers": [{"provider": "some", "secret": "full.key", "env": "FULL_KEY"}], "scopes": []},
    "env": [{"name": "REGION", "value": "{{full.region}}"}],
    "command": ["--region={{full.region}}"],
    "volumes": ["data:/data"],
    "user": "1000",
    "allowHosts": ["api.example.com:443"],
    "longLived": True,
    "prefix": "f",
    "config": [
        {
            "name": "full",
            "description": "Where",
            "type": "object",
            "properties": {"region": {"type": "string"}},
            "required": [],
        }
    ],
    "prompts": 0,
    "resources": {},
    "metadata": {
        "pulls": 1234,
        "stars": 5,
        "githubStars": 7,
        "category": "database",
        "tags": ["a", "1"],
        "license": "MIT",
        "owner": "x",
    },
}
FAR: dict[str, Any] = {
    "title": "Far",
    "description": "no: yes: maybe",
    "type": "remote",
    "remote": {
        "url": "https://mcp.example.com/mcp",
        "transport_type": "streamable-http",
        "headers": {"Authorization": "Bearer ${TOKEN}"},
    },
    "secrets": [{"name": "far.token", "env": "TOKEN", "example": "1e3"}],
}
ODD: dict[str, Any] = {
    "title": "0123",
    "type": "server",
    "image": f"x/odd@{DIGEST}",
    "description": "null",
    "command": ["yes", "1.0", ""],
}


def write(path: Path, tiles: dict[str, Any]) -> Path:
    path.write_bytes(catalog_yaml("test", "Test", tiles.items()))
    return path


def take(store: Store, settings: Settings, path: Path, name: str = "docker") -> Any:
    service.add_source(store, name, "docker-catalog", str(path))
    return service.sync_source(store, settings, name)


def exported(store: Store, **more: bool) -> Exported:
    with store.reading() as session:
        return export_tiles(session, **more)


def test_a_catalog_that_we_export_loads_back_equal(store: Store, database: Settings, tmp_path: Path) -> None:
    tiles = {"full": FULL, "far": FAR, "odd": ODD}
    report = take(store, database, write(tmp_path / "in.yaml", tiles))
    assert (report.added, report.unread, report.not_runnable) == (3, [], {})
    first = exported(store)
    assert first.tiles == tiles
    assert list(first.tiles["full"]) == list(FULL), "keys keep their order"
    again = write(tmp_path / "out.yaml", first.tiles)
    assert yaml.safe_load(again.read_text())["registry"] == tiles, "as any YAML reader sees it"
    service.remove_source(store, "docker")
    take(store, database, again)
    assert exported(store).tiles == tiles
    assert again.read_bytes() == catalog_yaml("test", "Test", exported(store).tiles.items())


def test_the_tiles_of_all_real_entries_load_back_equal(tmp_path: Path, mcp_registry: Path) -> None:
    tiles = {
        r.name: tile_of(parse_yaml(r.document).value)
        for r in read_folder(mcp_registry)
        if not isinstance(r, UnreadRecord)
    }
    back = list(read_catalog_file(write(tmp_path / "all.yaml", tiles)))
    assert len(back) == len(tiles) == 328
    assert {r.name: orjson.loads(r.document) for r in back if not isinstance(r, UnreadRecord)} == tiles


def test_an_entry_keeps_what_the_tile_says(store: Store, database: Settings, tmp_path: Path) -> None:
    take(store, database, write(tmp_path / "in.yaml", {"full": FULL}))
    with store.reading() as session:
        entry = session.exec(select(CatalogEntry)).one()
        version = session.exec(select(EntryVersion)).one()
        assert session.exec(select(FindingRow)).all() == []
    assert (entry.title, entry.category, entry.licence, entry.publisher) == (
        "Full: every key",
        "database",
        "MIT",
        "someone",
    )
    assert entry.network == "hosts"
    assert version.permissions["secrets"] == ["full.key"]
    assert version.published_at == "2025-05-05T20:19:57Z"


@pytest.mark.parametrize(
    ("change", "code", "path"),
    [
        ({"image": "x/y:latest"}, "image.undigested", "image"),
        ({"image": "docker.io/mcp/y"}, "image.undigested", "image"),
        ({"image": None}, "image.missing", "image"),
        ({"extraHosts": ["api.example.com:10.0.0.1"]}, "network.extra_hosts", "extraHosts"),
        ({"volumes": ["/etc:/etc"]}, "volume.forbidden", "volumes[0]"),
        ({"command": ["{{full.absent}}"]}, "template.dangling", "command[0]"),
        ({"env": [{"name": "A", "value": "{{full.absent}}"}]}, "template.dangling", "env[0].value"),
        ({"allowHosts": ["*:443"]}, "network.bad_host", "allowHosts[0]"),
        ({"user": "root"}, "user.root", "user"),
        ({"description": "fine\u202e"}, "text.hidden", "description"),
    ],
)
def test_a_tile_that_cannot_run_safely_says_why_and_where(change: dict[str, Any], code: str, path: str) -> None:
    record = read_tile("full", {k: v for k, v in {**FULL, **change}.items() if v is not None})
    assert [(f.code, f.path) for f in record.findings if f.severity == "error"] == [(code, path)]


def test_a_key_that_nobody_reads_is_reported() -> None:
    record = read_tile("full", {**FULL, "privileged": True, "metadata": {**FULL["metadata"], "mood": "good"}})
    assert {(f.code, f.path) for f in record.findings} == {
        ("key.unknown", "privileged"),
        ("key.unknown", "metadata.mood"),
    }


def test_what_cannot_run_is_left_out_by_name_unless_asked_for(store: Store, database: Settings, tmp_path: Path) -> None:
    tiles = {"loose": {"title": "L", "type": "server", "image": "x/y"}, "odd": ODD}
    take(store, database, write(tmp_path / "in.yaml", tiles))
    assert list(exported(store).tiles) == ["odd"]
    assert "held" in exported(store).left_out["loose"]
    assert exported(store, held=True).tiles == tiles


def test_our_own_entries_are_left_out_until_they_are_published(store: Store, database: Settings) -> None:
    service.add_source(store, "ours", "servers", str(database.servers_dir))
    report = service.sync_source(store, database, "ours")
    assert report.unread == []
    assert report.read == len(list(database.servers_dir.glob("*/server.yaml"))) >= 10
    found = exported(store)
    assert found.tiles == {}
    assert all("publish" in why for why in found.left_out.values())


def test_an_artifact_of_a_catalog_holds_the_same_tiles() -> None:
    tiles = {"full": FULL, "far": FAR, "odd": ODD}
    records = list(read_layer(artifact_layer("Test", tiles)))
    assert {r.name: orjson.loads(r.document) for r in records if not isinstance(r, UnreadRecord)} == tiles


def test_an_artifact_names_what_it_has_no_snapshot_of() -> None:
    layer = orjson.dumps(
        {
            "title": "T",
            "servers": [{"type": "image", "image": "x/y"}, {"snapshot": {"server": {"name": "odd", **ODD}}}] * 2,
        }
    )
    offers = list(read_layer(layer))
    assert [(o.name, isinstance(o, UnreadRecord)) for o in offers] == [
        ("x/y", True),
        ("x/y", True),
        ("odd", True),
        ("odd", False),
    ]


def test_an_artifact_is_of_dockers_type() -> None:
    assert ARTIFACT_TYPE == "application/vnd.docker.mcp.catalog.v1+json"


def test_a_catalog_travels_through_a_registry(tmp_path: Path) -> None:
    """Debian's docker-registry in between, as one user pushes and another adds the source."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed (Debian: apt-get install docker-registry)")
    tiles = {"full": FULL, "far": FAR}
    with running_registry(program, tmp_path) as address:
        digest = push_artifact(f"{address}/team/catalog:latest", "Team", tiles)
        for reference in (f"{address}/team/catalog:latest", f"{address}/team/catalog@{digest}"):
            records, _ = read_artifact(reference, TrustPolicy.of((), "nobody is trusted"))
            assert {r.name: orjson.loads(r.document) for r in records if not isinstance(r, UnreadRecord)} == tiles


@contextlib.contextmanager
def running_registry(program: str, folder: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(folder / "blobs")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    (folder / "registry.yaml").write_text(yaml.safe_dump(config))
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen([program, "serve", str(folder / "registry.yaml")], stdout=log, stderr=log)
    try:
        for _ in range(400):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert process.poll() is None, (folder / "registry.log").read_text()
            select_module.select([], [], [], 0.025)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=10)
