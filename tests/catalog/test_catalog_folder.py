"""An mcp-registry folder becomes entries; nothing is dropped silently, nothing is taken on trust."""

from __future__ import annotations

from pathlib import Path

import mcp_registry_counts as independent
import pytest
from sqlmodel import select

from catalog import service
from catalog.models import CatalogEntry, EntryVersion, Source
from catalog.sources.folder import read_folder
from catalog.store import Store
from harbourmaster.core.settings import Settings

SETTINGS = Settings.load()
ENTRY = """\
name: {name}
image: mcp/{name}
type: server
meta: {{category: database, tags: [one, two]}}
about: {{title: Title of {name}, description: What {name} does, icon: https://example.com/i.png}}
source: {{project: https://github.com/owner/{name}, commit: {commit}}}
"""


def write(root: Path, name: str, text: str = "", commit: str = "a" * 40) -> Path:
    folder = root / "servers" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "server.yaml").write_text(text or ENTRY.format(name=name, commit=commit))
    return folder


def findings(root: Path) -> dict[str, list[str]]:
    return {r.name: [f.code for f in r.findings] for r in read_folder(root) if hasattr(r, "findings")}


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    root = tmp_path / "registry"
    write(root, "alpha")
    write(root, "beta")
    return root


@pytest.fixture
def synced(store: Store, registry: Path) -> Store:
    service.add_source(store, "folder", "mcp-registry", str(registry))
    service.sync_source(store, SETTINGS, "folder")
    return store


def names(store: Store, status: str = "active") -> list[str]:
    with store.reading() as session:
        return sorted(session.exec(select(CatalogEntry.name).where(CatalogEntry.status == status)))


def test_every_real_entry_is_imported_and_the_counts_match_an_independent_script(
    store: Store, mcp_registry: Path
) -> None:
    service.add_source(store, "docker", "mcp-registry", str(mcp_registry))
    report = service.sync_source(store, SETTINGS, "docker")
    files = sorted(mcp_registry.glob("servers/*/server.yaml"))
    assert report.added == len(files) == 328
    assert report.unread == []
    assert report.findings["key.unknown"] == sum(len(independent.unknown_keys(f)) for f in files)
    assert report.findings["template.dangling"] == sum(len(independent.dangling_templates(f)) for f in files)
    assert report.findings["image.undigested"] == sum(len(independent.undigested_images(f)) for f in files)
    assert all(reasons for reasons in report.not_runnable.values())
    assert len(report.not_runnable) == 30


def test_the_same_folder_again_changes_nothing(synced: Store) -> None:
    revision = synced.revision()
    report = service.sync_source(synced, SETTINGS, "folder")
    assert (report.added, report.changed, report.unchanged) == (0, 0, 2)
    assert synced.revision() == revision


def test_a_changed_entry_keeps_its_older_version(synced: Store, registry: Path) -> None:
    write(registry, "alpha", commit="b" * 40)
    assert service.sync_source(synced, SETTINGS, "folder").changed == 1
    with synced.reading() as session:
        versions = {
            v.version: v.is_latest for v in session.exec(select(EntryVersion)) if v.document.startswith(b"name: alpha")
        }
    assert versions == {"a" * 12: False, "b" * 12: True}


def test_an_entry_that_left_the_folder_is_withdrawn_and_one_that_returns_is_active(
    synced: Store, registry: Path
) -> None:
    (registry / "servers/alpha/server.yaml").rename(registry / "kept")
    assert service.sync_source(synced, SETTINGS, "folder").withdrawn == 1
    assert names(synced, "deleted") == ["alpha"]
    (registry / "kept").rename(registry / "servers/alpha/server.yaml")
    service.sync_source(synced, SETTINGS, "folder")
    assert names(synced) == ["alpha", "beta"]


def test_an_unreadable_entry_is_named_with_its_reason_and_the_others_go_on(store: Store, registry: Path) -> None:
    write(registry, "broken", "name: [unclosed")
    write(registry, "twice", "name: twice\nname: other\n")
    write(registry, "moved", ENTRY.format(name="elsewhere", commit="a" * 40))
    (registry / "servers/linked").symlink_to(registry / "servers/alpha")
    service.add_source(store, "folder", "mcp-registry", str(registry))
    report = service.sync_source(store, SETTINGS, "folder")
    assert {u.name: u.code for u in report.unread} == dict.fromkeys(
        ["broken", "twice", "moved", "linked"], "entry.unreadable"
    )
    assert "line 2" in next(u.message for u in report.unread if u.name == "twice")
    assert names(store) == ["alpha", "beta"]


def test_a_folder_that_vanished_takes_nothing_with_it(synced: Store, registry: Path) -> None:
    registry.rename(registry.with_name("gone"))
    with pytest.raises(Exception, match="no folder"):
        service.sync_source(synced, SETTINGS, "folder")
    assert names(synced) == ["alpha", "beta"]
    with synced.reading() as session:
        assert "source.unreadable" in session.exec(select(Source)).one().last_error


def test_a_broken_import_is_resumed_by_running_it_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "many"
    for n in range(30):
        write(root, f"server-{n:02}")
    monkeypatch.setattr("catalog.importer.BATCH", 10)
    service.add_source(store, "many", "mcp-registry", str(root))
    real = read_folder(root)

    def breaks(_root: Path):  # type: ignore[no-untyped-def]
        for number, record in enumerate(real):
            if number == 22:
                raise KeyboardInterrupt
            yield record

    monkeypatch.setattr("catalog.sync.read_folder", breaks)
    with pytest.raises(KeyboardInterrupt):
        service.sync_source(store, SETTINGS, "many")
    assert len(names(store)) == 20
    monkeypatch.undo()
    monkeypatch.setattr("catalog.importer.BATCH", 10)
    report = service.sync_source(store, SETTINGS, "many")
    assert (report.added, report.unchanged) == (10, 20)


def test_removing_a_source_removes_what_came_from_it(synced: Store) -> None:
    service.remove_source(synced, "folder")
    assert names(synced) == []
    with synced.reading() as session:
        assert session.exec(select(EntryVersion)).all() == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("image: mcp/x\n", ""),
        ("image: someone/x:latest\n", "image.undigested"),
        ("image: 'has spaces'\n", "image.invalid"),
        ("image: mcp/x\nrun: {volumes: ['/var/run/docker.sock:/s']}\n", "volume.forbidden"),
        ("image: mcp/x\nrun: {volumes: ['/home/me/.ssh:/k']}\n", "volume.forbidden"),
        ("image: mcp/x\nrun: {volumes: ['/:/host']}\n", "volume.forbidden"),
        ("image: mcp/x\nrun: {volumes: ['/srv/../etc:/k']}\n", "volume.forbidden"),
        ("image: mcp/x\nrun: {volumes: ['data:/data']}\n", ""),
        ("image: mcp/x\nrun: {allowHosts: ['*:443']}\n", "network.bad_host"),
        ("image: mcp/x\nrun: {allowHosts: ['*.com:443']}\n", "network.bad_host"),
        ("image: mcp/x\nrun: {allowHosts: ['api.example.com:443']}\n", ""),
        ("image: mcp/x\nrun: {user: root}\n", "user.root"),
        ("image: mcp/x\nrun: {command: ['{{x.absent}}']}\n", "template.dangling"),
        ("image: mcp/x\nrun: {command: ['{{other.absent}}']}\n", "template.dangling"),
        ("image: mcp/x\nrun: {command: ['{{x.open']}\n", "template.unfinished"),
        ("image: mcp/x\nconfig: {secrets: [{name: x.k, env: 'A=B'}]}\n", "secret.env"),
    ],
)
def test_what_cannot_run_safely_says_why(tmp_path: Path, change: str, code: str) -> None:
    commit = "0" * 40
    write(tmp_path, "x", f"name: x\ntype: server\nabout: {{title: X}}\nsource: {{commit: '{commit}'}}\n{change}")
    (record,) = read_folder(tmp_path)
    errors = [f.code for f in record.findings if f.severity == "error"]
    assert errors == ([code] if code else [])
    assert all(f.remedy and f.message for f in record.findings)


@pytest.mark.parametrize(
    ("url", "refused"),
    [
        ("https://mcp.example.com/mcp", False),
        ("http://mcp.example.com/mcp", True),
        ("https://localhost/mcp", True),
        ("https://169.254.169.254/latest", True),
        ("https://[::1]/", True),
        ("https://2130706433/", True),
        ("https://0x7f.1/", True),
        ("https://user:secret@example.com/", True),
        ("https://printer.local/", True),
        ("file:///etc/passwd", True),
        ("javascript:alert(1)", True),
    ],
)
def test_a_remote_server_must_have_a_public_https_address(tmp_path: Path, url: str, refused: bool) -> None:
    text = f"name: far\ntype: remote\nabout: {{title: Far, icon: '{url}'}}\nremote: {{url: '{url}', transport_type: sse}}\n"
    write(tmp_path, "far", text)
    (record,) = read_folder(tmp_path)
    assert record.runnable is not refused
    assert record.icon == ("" if refused else url)
    assert ("address.refused" in [f.code for f in record.findings]) is refused


def test_findings_name_the_line(tmp_path: Path) -> None:
    write(tmp_path, "x", "name: x\ntype: server\nimage: a/b\nabout:\n  title: X\nrun:\n  ports:\n    - 1:1\n")
    (record,) = read_folder(tmp_path)
    lines = {f.code: f.line for f in record.findings}
    assert lines["image.undigested"] == 3
    assert lines["network.ports"] == 8
    assert lines["key.unknown"] == 7


def test_a_tool_whose_caller_chooses_the_host_folder_is_held(tmp_path: Path) -> None:
    text = """
name: x
type: poci
about: {title: X}
tools:
  - name: t
    parameters: {type: object, properties: {path: {type: string}}}
    container: {image: 'busybox@sha256:%s', volumes: ['{{path}}:{{path}}']}
""" % ("0" * 64)
    write(tmp_path, "x", text)
    assert findings(tmp_path)["x"] == ["volume.caller", "network.undeclared"]
