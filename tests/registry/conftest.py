"""The starter servers, built once for the whole test run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harbourmaster.core.settings import Settings
from registry.oci.layout import OciLayout
from registry.pipeline import BuildResult, build_all
from registry.schema import Entry, load_entries
from sandbox.engine import Engine
from tests.fixtures.known_images import only_known_images
from tests.registry import debianregistry, gitproject


@dataclass(frozen=True)
class Starters:
    """All starter servers in one HM_HOME: ``HM_TEST_HOME`` (what ``hm up`` built already), else one made for this run."""

    settings: Settings
    engine: Engine
    entries: dict[str, Entry]
    results: dict[str, BuildResult]
    layout: OciLayout


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    found = Engine.connect(Settings.load())
    yield found
    found.close()


@pytest.fixture(scope="session")
def starters(engine: Engine, built_home: Path | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starters]:
    settings = Settings.load(home=built_home or tmp_path_factory.mktemp("starters"))
    with only_known_images(engine.client, keep=built_home is not None):
        entries = load_entries(settings.servers_dir)
        results = build_all(settings, engine, entries)
        yield Starters(settings, engine, {e.name: e for e in entries}, results, OciLayout(settings.oci_dir))


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A server's git repository, which ``gitproject.ADDRESS`` leads to."""
    config, place = tmp_path / "gitconfig", tmp_path / "ahoy"
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    gitproject.make(place, config)
    return place


@pytest.fixture
def tidy_engine(engine: Engine) -> Iterator[Engine]:
    """The engine, which loses what the test loads into it."""
    with only_known_images(engine.client):
        yield engine


@pytest.fixture
def debian_registry(tmp_path: Path) -> Iterator[str]:
    """Debian's docker-registry on a free loopback port; no referrers API."""
    with debianregistry.running(tmp_path) as registry:
        yield registry.host


@pytest.fixture
def seeded(starters: Starters, tmp_path: Path) -> Iterator[Settings]:
    """An HM_HOME of the test's own that has the base images and nothing else."""
    settings = Settings.load(home=tmp_path / "harbour")
    layout = OciLayout(settings.oci_dir)
    bases = (starters.settings.home / "bases.json").read_bytes()
    for base in json.loads(bases)["bases"].values():
        manifest = starters.layout.read_manifest(base["manifest"])
        for blob in manifest.blobs:
            target = layout.blob_path(blob.digest)
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                shutil.copyfile(starters.layout.blob_path(blob.digest), target)
        layout.put_manifest(starters.layout.read_manifest_bytes(manifest.digest), tag=f"base-{base['name']}:0")
    (settings.home / "bases.json").write_bytes(bases)
    with only_known_images(starters.engine.client):
        yield settings
