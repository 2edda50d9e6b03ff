"""Before anything is built: what base images are made with, where there is no hub to pull them from."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harbourmaster.core.settings import Settings
from harbourmaster.up.bases import ensure_bases
from harbourmaster.up.errors import InstallFailed, InstallRefused
from harbourmaster.up.host import Host
from harbourmaster.up.servers import prepare
from registry.build import bases
from registry.oci.layout import OciLayout
from registry.schema import Entry, load_entries
from sandbox.engine import Engine
from tests.registry.tinyimages import Layer, put_image

pytestmark = pytest.mark.engine

DEBIAN = Host(debian_like=True, prefix=())
PACKAGES = "mmdebstrap debian-archive-keyring uidmap"


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    engine = Engine.connect(settings)
    yield engine
    engine.close()


@pytest.fixture
def entries(settings: Settings) -> list[Entry]:
    return load_entries(settings.servers_dir, ("time", "memory"))


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH without mmdebstrap, and no hub; the folder that the PATH is."""
    place = tmp_path / "bin"
    place.mkdir()
    monkeypatch.setenv("PATH", str(place))
    monkeypatch.setattr(bases, "HUB", {"python": "127.0.0.1:1/python:1", "node": "127.0.0.1:1/node:1"})
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    monkeypatch.setattr(Host, "look", lambda: DEBIAN)
    return place


@pytest.fixture
def apt(bare: Path) -> Callable[..., Path]:
    """Puts an ``apt-get`` there that notes what it was told, then does as the test says."""

    def put(does: str) -> Path:
        log, program = bare / "apt.log", bare / "apt-get"
        program.write_text(f'#!/bin/sh\necho "$@" >>"{log}"\n{does}\n')
        program.chmod(0o755)
        return log

    return put


def test_mmdebstrap_is_installed_before_anything_is_built_and_nothing_is_called_failed(
    settings: Settings,
    engine: Engine,
    entries: list[Entry],
    bare: Path,
    apt: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = apt(f"echo '#!/bin/sh' >{bare}/mmdebstrap && /bin/chmod +x {bare}/mmdebstrap")
    said: list[str] = []
    ensure_bases(settings, engine, entries, yes=True, say=said.append)
    assert log.read_text().splitlines()[-1].endswith(f"install -y -qq --no-install-recommends {PACKAGES}")
    assert "Docker Hub does not answer" in said[0]
    assert capsys.readouterr().err == "", "nothing was begun"
    assert shutil.which("mmdebstrap")

    ensure_bases(settings, engine, entries, yes=True, say=said.append)
    assert len(said) == 1, "what is there is not asked for again"


def test_without_a_yes_it_ends_with_one_error_that_says_what_to_install(
    settings: Settings, engine: Engine, apt: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    log = apt("true")
    with pytest.raises(InstallRefused) as caught:
        prepare(settings, engine, ("time", "memory"), yes=False, say=print)
    assert f"apt-get install -y --no-install-recommends {PACKAGES}" in caught.value.remedy
    assert "--yes" in caught.value.remedy
    assert capsys.readouterr().err == "", "nothing was begun"
    assert not log.exists()


@pytest.mark.parametrize(
    ("host", "says"),
    [
        (Host(debian_like=True, prefix=None), f"as root: apt-get install {PACKAGES}"),
        (Host(debian_like=False, prefix=()), "install mmdebstrap and Debian's archive keyring"),
    ],
)
def test_where_we_may_not_install_the_error_names_what_is_missing(
    settings: Settings,
    engine: Engine,
    entries: list[Entry],
    bare: Path,
    monkeypatch: pytest.MonkeyPatch,
    host: Host,
    says: str,
) -> None:
    monkeypatch.setattr(Host, "look", lambda: host)
    with pytest.raises(InstallRefused) as caught:
        ensure_bases(settings, engine, entries, yes=True, say=print)
    assert says in caught.value.remedy
    assert "Podman" not in caught.value.remedy


def test_an_install_that_fails_ends_it_before_the_builds(
    settings: Settings, engine: Engine, apt: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    apt("echo 'E: no mirror answers' >&2; exit 100")
    with pytest.raises(InstallFailed, match="no mirror answers"):
        prepare(settings, engine, ("time", "memory"), yes=True, say=print)
    assert "memory" not in capsys.readouterr().err


def test_where_the_bases_are_there_nobody_is_asked_and_no_hub_either(
    settings: Settings, engine: Engine, entries: list[Entry], bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = OciLayout(settings.oci_dir)
    recorded = {}
    for name in ("python", "node"):
        digest = put_image(layout, Layer([(name, b"x")]), tag=f"{name}:1")
        recorded[name] = {"name": name, "manifest": digest, "image_id": "", "origin": "debian:trixie"}
    body = {"version": bases.BASES_VERSION, "architecture": bases.image.architecture(), "bases": recorded}
    (settings.home / "bases.json").write_text(bases.json.dumps(body))
    monkeypatch.setattr(bases.Bases, "_hub_digest", lambda self, tag: pytest.fail("the hub was asked"))
    ensure_bases(settings, engine, entries, yes=False, say=pytest.fail)
