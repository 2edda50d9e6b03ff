"""``hm registry lock`` with the real resolvers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harbourmaster.core.settings import PROJECT_ROOT
from registry.build.errors import BuildFailed
from registry.locker import lock
from registry.locks import pinned, read_locks
from registry.lookup.errors import LookupMissing, LookupUnavailable
from registry.schema import load_entry

SERVERS = PROJECT_ROOT / "registry" / "servers"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["time", pytest.param("postgres", marks=pytest.mark.npm)])
def test_a_fresh_lock_pins_the_entrys_package_and_names_no_host(name: str, tmp_path: Path) -> None:
    entry = load_entry(SERVERS / name)

    files = lock(entry, tmp_path)

    packages = pinned(entry, read_locks(entry, tmp_path))  # raises unless all is pinned and agrees with the entry
    assert entry.source.package in {p.name for p in packages}
    assert "resolved" not in "".join(f.read_text() for f in files)


def test_without_npm_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(BuildFailed) as caught:
        lock(load_entry(SERVERS / "memory"), tmp_path)

    assert "npm" in caught.value.remedy


@pytest.mark.slow
def test_a_version_that_does_not_exist_leaves_the_old_lock_alone(tmp_path: Path) -> None:
    shutil.copytree(SERVERS / "time", tmp_path / "time")
    entry = tmp_path / "time" / "server.yaml"
    entry.write_text(entry.read_text().replace("2026.10.19", "1999.1.1"))
    before = (tmp_path / "time" / "requirements.lock").read_bytes()

    with pytest.raises(LookupMissing):
        lock(load_entry(tmp_path / "time"), tmp_path / "time")

    assert (tmp_path / "time" / "requirements.lock").read_bytes() == before


@pytest.mark.parametrize("name", ["time", pytest.param("memory", marks=pytest.mark.npm)])
def test_without_a_network_the_error_says_so_and_the_old_lock_stays(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(SERVERS / name, tmp_path / name)
    before = {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
    for variable in ("UV_INDEX_URL", "UV_DEFAULT_INDEX", "npm_config_registry"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9/")  # the discard port: nobody answers
    monkeypatch.setenv("UV_NO_CACHE", "1")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm"))
    monkeypatch.setenv("npm_config_fetch_retries", "0")

    with pytest.raises(LookupUnavailable) as caught:
        lock(load_entry(tmp_path / name), tmp_path / name)

    assert caught.value.code == "lookup.unavailable"
    assert "network" in caught.value.remedy
    assert {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} == before
