"""``hm catalog`` as a person types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from harbourmaster.cli import main

ENTRY = """\
name: {name}
image: mcp/{name}
type: server
meta: {{category: database, tags: [one]}}
about: {{title: "{title}", description: Queries the {name} warehouse}}
source: {{project: https://github.com/owner/{name}, commit: {commit}}}
"""


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    for name, title in (("alpha", "Alpha [bold]x[/bold]"), ("beta", "Beta")):
        folder = tmp_path / "registry/servers" / name
        folder.mkdir(parents=True)
        (folder / "server.yaml").write_text(ENTRY.format(name=name, title=title, commit="a" * 40))
    return tmp_path / "registry"


class Hm:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str, status: int = 0) -> str:
        with pytest.raises(SystemExit) as caught:
            main(["catalog", *words])
            raise SystemExit(0)
        out = self._capsys.readouterr()
        assert caught.value.code == status, out.err
        return out.out if status == 0 else out.out + out.err

    def json(self, *words: str, status: int = 0) -> Any:
        return json.loads(self(*words, "--json", status=status))


@pytest.fixture
def hm(home: Path, capsys: pytest.CaptureFixture[str]) -> Hm:
    return Hm(capsys)


def test_a_source_is_added_read_listed_and_removed(hm: Hm, registry: Path) -> None:
    (report,) = hm.json("source", "add", "mine", "mcp-registry", str(registry))
    assert report["added"] == 2
    (row,) = hm.json("source", "ls")
    assert (row["name"], row["entries"], row["last_error"]) == ("mine", 2, "")
    assert "mine" in hm("source", "ls")
    (report,) = hm.json("source", "sync")
    assert report["unchanged"] == 2
    assert hm.json("source", "sync", "--due") == [], "it was read a moment ago"
    hm("source", "show-in", "mine", "team")
    assert len(hm.json("ls", "--registry", "team")["hits"]) == 2
    assert hm.json("ls", "--registry", "other")["hits"] == []
    hm("source", "rm", "mine")
    assert hm.json("source", "ls") == []


def test_search_finds_and_show_shows(hm: Hm, registry: Path) -> None:
    hm("source", "add", "mine", "mcp-registry", str(registry))
    page = hm.json("search", "alhpa")
    assert [h["name"] for h in page["hits"]] == ["alpha"]
    assert page["corrected"] == {"alhpa": "alpha"}
    assert "searched for alpha" in hm("search", "alhpa", "--facets")
    shown = hm("show", "alpha")
    assert "Alpha [bold]x[/bold]" in shown, "markup of strangers is text"
    details = hm.json("show", "alpha")
    assert (details["name"], details["runnable"], details["vulnerabilities"]["known"]) == ("alpha", True, False)
    assert [h["name"] for h in hm.json("ls")["hits"]] == ["alpha", "beta"]
    assert hm.json("ls", "--held")["hits"] == []


@pytest.mark.parametrize(
    ("words", "code", "status"),
    [
        (["show", "nothing"], "entry.unknown", 1),
        (["source", "rm", "nothing"], "source.unknown", 1),
        (["search", "x", "--tier", "gold"], "search.invalid", 2),
        (["source", "add", "x", "floppy", "/a"], "usage", 2),
        (["source", "add", "x", "mcp-registry", "/nonexistent"], "source.unreadable", 1),
        (["source", "add", "x", "registry-api", "http://example.com"], "source.unreadable", 1),
        (["vulnerabilities", "import", "/nonexistent"], "source.unreadable", 1),
    ],
)
def test_a_refusal_names_its_code_and_what_to_do(hm: Hm, words: list[str], code: str, status: int) -> None:
    said = hm(*words, status=status)
    assert hm.json("source", "ls") == [], "nothing half-made stays"
    assert f"[{code}]" in said
    assert "what to do" in said


def test_a_catalog_is_exported_and_imported_again(hm: Hm, registry: Path, tmp_path: Path) -> None:
    hm("source", "add", "mine", "mcp-registry", str(registry))
    file = tmp_path / "out.yaml"
    hm("export", str(file), "--name", "ours")
    written = yaml.safe_load(file.read_text())
    assert (written["name"], sorted(written["registry"])) == ("ours", ["alpha", "beta"])
    hm("source", "rm", "mine")
    (report,) = hm.json("import", str(file))
    assert report["added"] == 2
    assert sorted(report["not_runnable"]) == ["alpha", "beta"], "a catalog, unlike a submission, must have digests"
    assert "left out: alpha" not in hm("export", "--held")
    assert "source.exists" in hm("import", str(tmp_path / "other.yaml"), status=2)


def test_vulnerabilities_of_an_sbom_decide_the_exit_status(hm: Hm, tmp_path: Path) -> None:
    record = {
        "id": "TEST-1",
        "modified": "2026-01-01T00:00:00Z",
        "affected": [{"package": {"ecosystem": "PyPI", "name": "lib"}, "versions": ["1.0"]}],
    }
    (tmp_path / "osv").mkdir()
    (tmp_path / "osv/TEST-1.json").write_text(json.dumps(record))
    assert hm.json("vulnerabilities", "import", str(tmp_path / "osv"))["added"] == 1
    for version, status in (("1.0", 1), ("1.1", 0)):
        sbom = tmp_path / f"{version}.json"
        sbom.write_text(json.dumps({"components": [{"name": "lib", "purl": f"pkg:pypi/lib@{version}"}]}))
        found = hm.json("vulnerabilities", "check", "--sbom", str(sbom), status=status)
        assert found["affecting"] == status
    assert hm.json("vulnerabilities", "ls") == {"advisories": 1, "entries": []}


def test_a_starter_server_is_not_added_but_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HM_HOME", str(tmp_path))
    with pytest.raises(SystemExit) as e:
        main(["catalog", "add", "time"])
    assert e.value.code == 1
    said = capsys.readouterr().err
    assert "error [entry.name_taken]" in said
    assert "hm up --servers time" in said
