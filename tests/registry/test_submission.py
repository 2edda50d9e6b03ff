"""A submission from nothing to an enabled server on another machine; and a tampered copy of that registry at every step."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import debianregistry
import pytest
import requests
from debianregistry import DebianRegistry
from gitproject import ADDRESS, git
from papered import predicate
from tinyimages import flip_byte

from gateway.lock import read_lock
from harbourmaster.cli import main
from harbourmaster.core.digests import hex_of, sha256
from harbourmaster.core.settings import Settings
from policies.bundles import sign_statement
from policies.keys import SigningKey
from policies.statements import LISTING, PROVENANCE, SBOM, SIGNATURE, statement
from registry import artifact
from registry.build.records import BuildRecord, BuildRecords
from registry.oci import media
from registry.oci.importer import import_engine_image
from registry.oci.layout import OciLayout
from registry.oci.remote import Remote
from registry.places import adopted_dir, find_entry
from registry.schema import load_entry
from sandbox.engine import Engine
from tests.fixtures.images import build_echo_image

TRUST = """\
version: 1
rules:
- {name: the team, tier: any, servers: ["*"], keys: [{file: team.pub}]}
- {name: its catalogs, tier: catalog, servers: ["127.0.0.1*/team/*"], keys: [{file: team.pub}]}
"""
ENTRY = """\
name: echo
type: server
tier: built
about: {title: Echo, description: Says back what it is told.}
meta: {category: utilities}
source:
  kind: pypi
  package: mcp-server-echo
  version: 1.2.3
  sha256: 5c099a001c6ca78260bda419f2e9b2aabee1adc4fe6ca56d8959871ad8da58a1
  url: https://example.com/echo
  licence: MIT
build: {runtime: python}
run: {command: [/server]}
test:
  calls:
    - {tool: echo, arguments: {text: ahoy}, expect: {contains: ahoy}}
"""


ADVISORY = {
    "id": "PYSEC-2026-1",
    "modified": "2026-01-01T00:00:00Z",
    "affected": [{"package": {"ecosystem": "PyPI", "name": "nothing-here"}, "versions": ["1"]}],
}


def hm(home: Path, *arguments: str) -> int:
    """The command line, as if on a machine whose HM_HOME is ``home``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HM_HOME", str(home))
        try:
            main(list(arguments))
        except SystemExit as e:
            return int(e.code or 0)
    return 0


@dataclass(frozen=True)
class Team:
    """Who publishes: a home with a key and one built server, and the registry it was published to."""

    settings: Settings
    registry: DebianRegistry
    manifest: str

    @property
    def place(self) -> str:
        return f"{self.registry.host}/team"

    @property
    def key(self) -> SigningKey:
        return SigningKey.load_or_create(self.settings.keys_dir)

    @property
    def layout(self) -> OciLayout:
        return OciLayout(self.settings.oci_dir)

    def catalog(self) -> str:
        return Remote().resolve(f"{self.place}/catalog:latest")

    def publish(self) -> int:
        root = self.settings.home / "entries"
        return hm(self.settings.home, "registry", "publish", "echo", "--root", str(root), "--to", self.place)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[DebianRegistry]:
    with debianregistry.running(tmp_path / "registry") as found:
        yield found


@pytest.fixture
def team(tmp_path: Path, registry: DebianRegistry, tidy_engine: Engine) -> Team:
    """The echo server as if it had been built: with all four papers of the team's key."""
    settings = Settings.load(home=tmp_path / "team")
    layout, key = OciLayout(settings.oci_dir), SigningKey.load_or_create(settings.keys_dir)
    manifest = import_engine_image(tidy_engine.client, build_echo_image(tidy_engine), layout)
    layout.tag("echo:1.2.3", manifest)
    listing = {
        "protocolVersion": "2025-11-25",
        "serverInfo": {"name": "echo", "version": "1"},
        "capabilities": {"tools": {}},
        "tools": [{"name": "echo", "description": "Echoes.", "inputSchema": {"type": "object"}}],
    }
    for kind in (SIGNATURE, SBOM, PROVENANCE, LISTING):
        body = listing if kind == LISTING else predicate(layout, manifest, kind)
        attach(layout, manifest, kind, sign_statement(statement("echo", manifest, kind, body), key))
    config = layout.read_manifest(manifest).config.digest
    record = BuildRecord("", manifest, config, "", "", "", "", "", (), "", "")
    BuildRecords(settings.home).put("echo", record)
    folder = settings.home / "entries" / "echo"
    folder.mkdir(parents=True)
    (folder / "server.yaml").write_text(ENTRY)
    found = Team(settings, registry, manifest)
    assert found.publish() == 0
    return found


def attach(layout: OciLayout, manifest: str, kind: str, bundle: bytes) -> str:
    annotations = {media.PREDICATE_TYPE_ANNOTATION: kind}
    return layout.add_referrer(manifest, bundle, annotations=annotations).digest


@pytest.fixture
def reader(tmp_path: Path, team: Team) -> Path:
    """Another machine, whose owner trusts the team."""
    home = tmp_path / "reader"
    home.mkdir()
    (home / "trust.yaml").write_text(TRUST)
    (home / "team.pub").write_text(team.key.verifying.pem)
    return home


def add_source(home: Path, team: Team) -> int:
    return hm(home, "catalog", "source", "add", "team", "oci", f"oci://{team.place}/catalog:latest")


def nothing_was_taken(home: Path) -> bool:
    settings = Settings.load(home=home)
    return "echo" not in read_lock(settings.lock_file) and not (adopted_dir(settings) / "echo").exists()


@pytest.mark.engine
@pytest.mark.slow
def test_from_nothing_to_a_server_that_another_machine_calls(
    repository: Path, seeded: Settings, registry: DebianRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    author, work = seeded.home, tmp_path / "work"
    root = work / "registry" / "servers"
    root.mkdir(parents=True)
    git(work, "init", "--quiet", "--initial-branch=main")
    git(work, "commit", "--quiet", "--allow-empty", "--message=Start")

    said = ("--tool", "greet", "--expect", "ahoy", "--category", "utilities", "--root", str(root))
    assert hm(author, "registry", "new", "--git", ADDRESS, "--directory", "server", *said) == 0
    assert "to do" not in capsys.readouterr().out
    (tmp_path / "advisories").mkdir()
    (tmp_path / "advisories" / "one.json").write_text(json.dumps(ADVISORY))
    assert hm(author, "catalog", "vulnerabilities", "import", str(tmp_path / "advisories")) == 0
    assert (
        hm(
            author,
            "registry",
            "check",
            "--changed",
            "--base",
            "main",
            "--root",
            str(root),
            "-o",
            str(work / "report.md"),
        )
        == 0
    )
    report = (work / "report.md").read_text()
    assert "ahoy: ✔ pass" in report
    assert "greet" in report
    assert "none in an advisory that affects it" in report
    assert hm(author, "registry", "build", "ahoy", "--root", str(root)) == 0
    place = f"{registry.host}/team"
    assert hm(author, "registry", "publish", "ahoy", "--root", str(root), "--to", place, "--title", "Team") == 0

    reader = tmp_path / "reader"
    reader.mkdir()
    shutil.copyfile(author / "keys" / "signing.pub", reader / "team.pub")
    capsys.readouterr()
    source = ("catalog", "source", "add", "team", "oci", f"{place}/catalog:latest")
    assert hm(reader, *source) == 1, "nobody said yet whom to trust"
    assert "trust.empty" in capsys.readouterr().err
    (reader / "trust.yaml").write_text(TRUST)
    assert hm(reader, *source) == 0
    assert hm(reader, "catalog", "search", "ahoy") == 0
    assert hm(reader, "catalog", "add", "ahoy", "--yes") == 0
    assert hm(reader, "verify", "ahoy", "--offline", "--deep") == 0
    capsys.readouterr()
    assert hm(reader, "call", "ahoy.greet") == 0
    assert "ahoy" in capsys.readouterr().out
    line = read_lock(Settings.load(home=reader).lock_file)["ahoy"]
    assert line.enabled
    assert line.signer == f"key {SigningKey.load_or_create(author / 'keys').verifying.key_id}"
    assert hm(reader, "server", "disable", "ahoy") == 0
    assert hm(reader, "call", "ahoy.greet") == 1


@pytest.mark.engine
def test_what_the_team_published_is_taken_by_who_trusts_it(team: Team, reader: Path) -> None:
    assert add_source(reader, team) == 0
    assert hm(reader, "catalog", "add", "echo", "--yes") == 0

    line = read_lock(Settings.load(home=reader).lock_file)["echo"]
    assert line.image == team.manifest
    assert (line.tier, line.version) == ("built", "1.2.3")
    assert hm(reader, "verify", "echo", "--offline") == 0


@pytest.mark.engine
def test_without_a_yes_nothing_is_taken(team: Team, reader: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_source(reader, team)

    assert hm(reader, "catalog", "add", "echo") == 1

    assert "lock.not_agreed" in capsys.readouterr().err
    assert nothing_was_taken(reader)


@pytest.mark.engine
def test_a_catalog_of_the_team_is_read_by_dockers_readers_too(team: Team) -> None:
    data = artifact.own(f"{team.place}/catalog:latest", team.key).data

    (server,) = json.loads(data)["servers"]
    assert server["type"] == "image"
    assert server["image"].endswith(team.manifest)
    assert server["snapshot"]["server"]["image"] == server["image"]
    assert server["snapshot"]["server"]["title"] == "Echo"


# -- the tampered copies: what is refused, and with which code


def flip_catalog(team: Team) -> None:
    layout = OciLayout(team.settings.home / "scratch")
    digest = Remote().pull(f"{team.place}/catalog:latest", layout)
    flip_byte(team.registry.blob(layout.read_manifest(digest).layers[0].digest), at=30)


def replace_catalog(team: Team) -> None:
    """By one that a stranger signed."""
    items, _ = artifact.parse(artifact.own(f"{team.place}/catalog:latest", team.key).data)
    artifact.push(f"{team.place}/catalog:latest", "Team", artifact.layer("Team", items), SigningKey.generate())


def unsign_catalog(team: Team) -> None:
    put_referrers(team, "catalog", team.catalog(), [])


def swap_catalog_signature(team: Team) -> None:
    """By the team's own, for another of its catalogs."""
    layout = OciLayout(team.settings.home / "scratch")
    digest = Remote().pull(f"{team.place}/catalog:latest", layout)
    bundle = sign_statement(statement("Team", sha256(b"another"), SIGNATURE, {}), team.key)
    other = attach(layout, digest, SIGNATURE, bundle)
    Remote().push(layout, digest, f"{team.place}/catalog:latest")
    put_referrers(team, "catalog", digest, [layout.read_manifest(other).descriptor.as_dict()])


@pytest.mark.engine
@pytest.mark.parametrize(
    ("tamper", "code"),
    [
        (flip_catalog, "digest.mismatch"),
        (replace_catalog, "signature.untrusted_key"),
        (unsign_catalog, "signature.missing"),
        (swap_catalog_signature, "attestation.wrong_subject"),
    ],
)
def test_a_tampered_catalog_is_not_read(
    tamper: Callable[[Team], None], code: str, team: Team, reader: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tamper(team)

    assert add_source(reader, team) == 1

    assert f"[{code}]" in capsys.readouterr().err
    assert hm(reader, "catalog", "add", "echo", "--yes") == 1
    assert nothing_was_taken(reader)


@pytest.mark.engine
def test_an_older_catalog_is_refused_though_its_signature_stands(
    team: Team, reader: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = OciLayout(team.settings.home / "scratch")
    older = Remote().pull(f"{team.place}/catalog:latest", layout)
    assert team.publish() == 0
    assert add_source(reader, team) == 0

    Remote().push(layout, older, f"{team.place}/catalog:latest")

    assert hm(reader, "catalog", "source", "sync", "team") == 1
    assert "catalog.rolled_back" in capsys.readouterr().err


def flip_layer(team: Team) -> None:
    flip_byte(team.registry.blob(team.layout.read_manifest(team.manifest).layers[0].digest))


def flip_config(team: Team) -> None:
    flip_byte(team.registry.blob(team.layout.read_manifest(team.manifest).config.digest))


def forge_sbom(team: Team) -> None:
    """An emptier one, signed by a stranger, in the place of the team's."""
    replace_paper(team, SBOM, SigningKey.generate(), team.manifest)


def swap_sbom(team: Team) -> None:
    """The team's own, for another image."""
    replace_paper(team, SBOM, team.key, sha256(b"another image"))


def swap_signature(team: Team) -> None:
    replace_paper(team, SIGNATURE, team.key, sha256(b"another image"))


def drop_sbom(team: Team) -> None:
    put_referrers(team, "echo", team.manifest, [p for p in papers(team) if kind_of(p) != SBOM])


def drop_signature(team: Team) -> None:
    put_referrers(team, "echo", team.manifest, [p for p in papers(team) if kind_of(p) != SIGNATURE])


@pytest.mark.engine
@pytest.mark.parametrize(
    ("tamper", "code"),
    [
        (flip_layer, "digest.mismatch"),
        (flip_config, "digest.mismatch"),
        (forge_sbom, "signature.untrusted_key"),
        (swap_sbom, "attestation.wrong_subject"),
        (drop_sbom, "attestation.missing"),
        (swap_signature, "attestation.wrong_subject"),
        (drop_signature, "signature.missing"),
    ],
)
def test_a_tampered_image_or_paper_is_not_taken(
    tamper: Callable[[Team], None], code: str, team: Team, reader: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert add_source(reader, team) == 0
    tamper(team)
    capsys.readouterr()

    assert hm(reader, "catalog", "add", "echo", "--yes") == 1

    assert f"[{code}]" in capsys.readouterr().err
    assert nothing_was_taken(reader)


def test_no_catalog_takes_the_place_of_a_starter_server(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    starters = Settings.load().servers_dir
    copy = home.parent / "servers"
    shutil.copytree(starters / "time", copy / "time")
    text = (copy / "time" / "server.yaml").read_text()
    image = f"127.0.0.1:9/acme/time:1@{sha256(b'x')}"
    head = text[: text.index("source:")].replace("tier: built", "tier: community")
    (copy / "time" / "server.yaml").write_text(f"{head}image: {image}\n")
    assert hm(home, "catalog", "source", "add", "evil", "servers", str(copy), "--no-sync") == 0
    hm(home, "catalog", "source", "sync", "evil")
    capsys.readouterr()

    assert hm(home, "catalog", "add", "time", "--yes") == 1

    assert "entry.name_taken" in capsys.readouterr().err


def papers(team: Team) -> list[dict[str, object]]:
    layout = team.layout
    return [layout.read_manifest(d.digest).descriptor.as_dict() for d in layout.referrers(team.manifest)]


def kind_of(descriptor: dict[str, object]) -> object:
    annotations = descriptor["annotations"]
    assert isinstance(annotations, dict)
    return annotations[media.PREDICATE_TYPE_ANNOTATION]


def replace_paper(team: Team, kind: str, key: SigningKey, about: str) -> None:
    layout = OciLayout(team.settings.home / "scratch")
    Remote().pull(f"{team.place}/echo@{team.manifest}", layout)
    bundle = sign_statement(statement("echo", about, kind, {"bomFormat": "CycloneDX", "components": []}), key)
    forged = attach(layout, team.manifest, kind, bundle)
    Remote().push(layout, team.manifest, f"{team.place}/echo:1.2.3")
    kept = [p for p in papers(team) if kind_of(p) != kind]
    put_referrers(team, "echo", team.manifest, [*kept, layout.read_manifest(forged).descriptor.as_dict()])


def put_referrers(team: Team, repository: str, subject: str, descriptors: list[dict[str, object]]) -> None:
    """Write the list of an image's papers (the fallback tag), as whoever may write to the registry can."""
    body = json.dumps({"schemaVersion": 2, "mediaType": media.INDEX, "manifests": descriptors})
    address = f"http://{team.place.replace('/', '/v2/', 1)}/{repository}/manifests/sha256-{hex_of(subject)}"
    answer = requests.put(address, data=body, headers={"Content-Type": media.INDEX}, timeout=10)
    assert answer.status_code == 201, answer.text


@pytest.mark.engine
def test_what_was_taken_is_known_to_the_catalog_with_its_evidence(
    team: Team, reader: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_source(reader, team)
    hm(reader, "catalog", "add", "echo", "--yes")
    capsys.readouterr()

    assert hm(reader, "catalog", "show", "echo", "--json") == 0

    (image,) = json.loads(capsys.readouterr().out)["images"]
    assert {fact["kind"] for fact in image["evidence"]} == {"signature", "sbom", "provenance", "listing"}


@pytest.mark.engine
def test_what_was_taken_goes_on_to_dockers_gateway(
    team: Team, reader: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_source(reader, team)
    place = f"{team.registry.host}/team/again:latest"

    assert hm(reader, "catalog", "export", place, "--push") == 0

    pulled = artifact.own(place, SigningKey.load_or_create(reader / "keys"))
    (server,) = artifact.parse(pulled.data)[0]
    assert server["image"].endswith(team.manifest)
    assert server["snapshot"]["server"]["command"] == ["/server"]


@pytest.mark.engine
def test_a_publishers_image_of_dockers_catalog_is_looked_into_and_taken(
    team: Team, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody's papers are needed: the image is pinned by digest, and this machine looks into it itself."""
    home = tmp_path / "alone"
    tile = {"title": "Echo", "type": "server", "image": f"{team.place}/echo@{team.manifest}", "disableNetwork": True}
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(json.dumps({"version": 3, "name": "x", "registry": {"echo": tile}}))
    put_referrers(team, "echo", team.manifest, [])
    assert hm(home, "catalog", "source", "add", "docker", "docker-catalog", str(catalog)) == 0

    assert hm(home, "catalog", "add", "echo", "--yes") == 0, capsys.readouterr().err

    line = read_lock(Settings.load(home=home).lock_file)["echo"]
    assert (line.tier, line.image) == ("community", team.manifest)
    assert "nobody" in line.signer
    assert hm(home, "verify", "echo", "--offline", "--deep") == 0
    capsys.readouterr()
    assert hm(home, "call", "echo.echo", "text=ahoy") == 0
    assert "ahoy" in capsys.readouterr().out


@pytest.mark.engine
def test_a_community_server_is_published_again_with_what_we_found_in_it(
    team: Team, reader: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its image goes along, and its entry pins it where it lies now."""
    root = team.settings.home / "community"
    (root / "maps").mkdir(parents=True)
    head = ENTRY.partition("source:")[0].replace("tier: built", "tier: community").replace("name: echo", "name: maps")
    image = f"{team.place}/echo:1.2.3@{team.manifest}"
    (root / "maps" / "server.yaml").write_text(f"{head}image: {image}\nrun: {{offline: true}}\n")
    put_referrers(team, "echo", team.manifest, [])
    assert hm(team.settings.home, "registry", "build", "maps", "--root", str(root)) == 0
    assert hm(team.settings.home, "registry", "publish", "maps", "--root", str(root), "--to", team.place) == 0

    add_source(reader, team)
    assert hm(reader, "catalog", "add", "maps", "--yes") == 0, capsys.readouterr().err

    entry = load_entry(adopted_dir(Settings.load(home=reader)) / "maps")
    assert entry.image == f"{team.place}/maps:1.2.3@{team.manifest}"
    line = read_lock(Settings.load(home=reader).lock_file)["maps"]
    assert (line.tier, line.image) == ("community", team.manifest)


def test_a_remote_server_of_a_signed_catalog_is_known_from_then_on(
    registry: DebianRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    author, reader, root = tmp_path / "author", tmp_path / "reader", tmp_path / "entries"
    (root / "tickets").mkdir(parents=True)
    head = (
        ENTRY.partition("source:")[0].replace("tier: built", "tier: community").replace("type: server", "type: remote")
    )
    text = head.replace("name: echo", "name: tickets") + "remote: {url: https://mcp.tickets.example/mcp, oauth: {}}\n"
    (root / "tickets" / "server.yaml").write_text(text)
    place = f"{registry.host}/team"
    assert hm(author, "registry", "publish", "tickets", "--root", str(root), "--to", place) == 0
    reader.mkdir()
    (reader / "trust.yaml").write_text(TRUST)
    shutil.copyfile(author / "keys" / "signing.pub", reader / "team.pub")
    assert hm(reader, "catalog", "source", "add", "team", "oci", f"{place}/catalog:latest") == 0

    assert hm(reader, "catalog", "add", "tickets", "--yes") == 0

    said = capsys.readouterr().out
    assert "https://mcp.tickets.example/mcp" in said
    assert "hm server add tickets" in said
    entry = find_entry(Settings.load(home=reader), "tickets")
    assert entry.remote is not None
    assert "tickets" not in read_lock(Settings.load(home=reader).lock_file), "nobody has connected to it yet"


@pytest.mark.engine
def test_a_community_entry_in_a_folder_is_looked_into_here(
    team: Team, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, root = tmp_path / "alone", tmp_path / "entries"
    (root / "maps").mkdir(parents=True)
    head = ENTRY.partition("source:")[0].replace("tier: built", "tier: community").replace("name: echo", "name: maps")
    image = f"{team.place}/echo:1.2.3@{team.manifest}"
    (root / "maps" / "server.yaml").write_text(f"{head}image: {image}\nrun: {{offline: true}}\n")
    put_referrers(team, "echo", team.manifest, [])
    assert hm(home, "catalog", "source", "add", "mine", "servers", str(root)) == 0
    capsys.readouterr()
    assert hm(home, "catalog", "show", "maps", "--json") == 0
    assert [i["reference"] for i in json.loads(capsys.readouterr().out)["images"]] == [image]

    assert hm(home, "catalog", "add", "maps", "--yes") == 0, capsys.readouterr().err

    assert read_lock(Settings.load(home=home).lock_file)["maps"].image == team.manifest
