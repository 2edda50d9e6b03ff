"""Base images: small, without what only builders need, and an error that helps when there is no way to make one."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from conftest import Starters

from registry.build.container import LogTail
from registry.build.debian import bootstrap, keep_in_debian_layer
from registry.build.errors import BaseUnavailable


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
        bases = json.loads((starters.settings.home / "bases.json").read_bytes())["bases"]
        if "debian" not in bases:
            pytest.skip("Docker Hub answers here: its images are taken as they are")

        first = {starters.layout.read_manifest(bases[name]["manifest"]).layers[0].digest for name in ("python", "node")}

        assert len(first) == 1
