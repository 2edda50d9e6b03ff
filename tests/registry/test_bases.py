"""Base images: small, without what only builders need, and an error that helps when there is no way to make one."""

from __future__ import annotations

import contextlib
import io
import json
import re
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker.errors
import pytest
from conftest import Starters
from tinyimages import Layer, put_image

from harbourmaster.core.settings import Settings
from registry.build import bases
from registry.build.bases import Bases
from registry.build.container import LogTail
from registry.build.debian import bootstrap, keep_in_debian_layer
from registry.build.errors import BaseUnavailable
from registry.build.network import BuildNetwork
from registry.oci import OciLayout
from registry.oci.remote import Remote
from sandbox.engine import Engine


def test_without_mmdebstrap_the_remedy_is_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(BaseUnavailable) as caught:
        bootstrap(io.BytesIO(), LogTail())

    assert "apt-get install -y mmdebstrap" in caught.value.remedy


def test_a_broken_mmdebstrap_shows_the_end_of_its_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "mmdebstrap"
    fake.write_text("#!/bin/sh\necho 'E: no mirror answers' >&2\nexit 3\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    with pytest.raises(BaseUnavailable, match="no mirror answers"):
        bootstrap(io.BytesIO(), LogTail())


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("var/lib/apt/lists/x_Packages", False),
        ("var/cache/apt/archives/git.deb", False),
        ("run/harbourmaster/ca.pem", False),
        ("root/.cache/pip", False),
        ("etc/resolv.conf", False),
        ("var/lib/dpkg/status-old", False),
        ("var/lib/dpkg/status", True),
        ("usr/share/doc/git/copyright", True),
        ("tmp", True),
        ("etc/ssl/certs/ca-certificates.crt", True),
    ],
)
def test_what_a_debian_layer_may_hold(name: str, kept: bool) -> None:
    assert keep_in_debian_layer(name) is kept


def test_log_lines_lose_credentials_and_control_characters() -> None:
    log = LogTail()

    log.feed(b"Looking in https://me:secret@mirror.example/simple\r\n\x1b[2Jdone")

    assert "secret" not in log.text()
    assert "\x1b" not in log.text()


@pytest.fixture
def hub_image(debian_registry: str, tmp_path: Path, engine: Engine) -> Iterator[str]:
    """A tag on a registry that answers, in the hub's place; its digest is what the registry says."""
    layout = OciLayout(tmp_path / "hub")
    digest = put_image(layout, Layer([("marker", uuid.uuid4().bytes)]), tag="x:1")
    ref = f"{debian_registry}/python:3.13-slim"
    Remote().push(layout, digest, ref)
    yield ref
    with contextlib.suppress(docker.errors.ImageNotFound):
        engine.client.images.remove(f"{debian_registry}/python@{digest}", force=True)


@pytest.mark.engine
def test_where_the_hub_answers_its_image_is_pulled_by_digest_once_and_recorded(
    hub_image: str, settings: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(bases.HUB, "python", hub_image)
    layout = OciLayout(settings.oci_dir)

    base = Bases(settings, engine.client, layout, BuildNetwork()).runtime("python")

    assert re.fullmatch(re.escape(hub_image.rpartition(":")[0]) + "@sha256:[0-9a-f]{64}", base.origin)
    assert base.image_id == engine.client.images.get(base.image_id).id
    assert layout.verify_blob(layout.read_manifest(base.manifest).layers[0].digest)

    monkeypatch.setitem(bases.HUB, "python", "127.0.0.1:1/gone:1")  # what was recorded needs no hub
    again = Bases(settings, engine.client, layout, BuildNetwork())
    assert again.runtime("python") == base
    assert again.builder("python").image_id == base.image_id  # the hub's image brings pip itself
    assert again.digests("python") == (base.manifest, base.manifest)


@pytest.mark.engine
def test_a_hub_that_does_not_answer_is_asked_once(
    settings: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bases, "HUB", {"python": "127.0.0.1:1/python:1", "node": "127.0.0.1:1/node:1"})
    monkeypatch.setenv("PATH", "/nowhere")  # so that the other way is closed too

    made = Bases(settings, engine.client, OciLayout(settings.oci_dir), BuildNetwork())

    for runtime in ("python", "node"):
        with pytest.raises(BaseUnavailable):
            made.runtime(runtime)
    assert not (settings.home / "bases.json").exists()


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.timeout(1500)
class TestMade:
    def names(self, starters: Starters, base: str) -> dict[str, tarfile.TarInfo]:
        entry = json.loads((starters.settings.home / "bases.json").read_bytes())["bases"][base]
        if not entry["origin"].startswith("debian:"):
            pytest.skip("Docker Hub answers here: its images are taken as they are")
        found: dict[str, tarfile.TarInfo] = {}
        for layer in starters.layout.read_manifest(entry["manifest"]).layers:
            with starters.layout.open_blob(layer.digest) as f, tarfile.open(fileobj=f) as tar:
                found |= {m.name: m for m in tar}
        return found

    @pytest.mark.parametrize("base", ["python", "node", "python+git"])
    def test_a_runtime_base_has_no_set_id_file_no_package_index_and_no_installer(
        self, starters: Starters, base: str
    ) -> None:
        names = self.names(starters, base)

        assert not [n for n, m in names.items() if m.mode & 0o6000]
        assert not [n for n in names if n.startswith(("var/lib/apt/lists/", "usr/share/man/man", "usr/share/locale/"))]
        assert not [n for n in names if n.endswith(("/pip", "/npm", "/npx", "/pip3"))]
        assert "usr/share/doc/libc6/copyright" in names
        assert "var/lib/dpkg/status" in names

    def test_the_runtimes_share_one_debian_layer(self, starters: Starters) -> None:
        recorded = json.loads((starters.settings.home / "bases.json").read_bytes())["bases"]
        if "debian" not in recorded:
            pytest.skip("Docker Hub answers here: its images are taken as they are")

        first = {
            starters.layout.read_manifest(recorded[name]["manifest"]).layers[0].digest for name in ("python", "node")
        }

        assert len(first) == 1
