import io
from pathlib import Path

import pytest

from harbourmaster.up import host
from harbourmaster.up.errors import InstallRefused
from harbourmaster.up.host import Host, ask, install_packages


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ID=debian\n", True),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\n', True),
        ("ID=fedora\n", False),
        ("", False),
    ],
)
def test_debian_and_its_kin_are_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: bool
) -> None:
    monkeypatch.setattr(host.shutil, "which", lambda name: "/usr/bin/" + name)
    (tmp_path / "os-release").write_text(text)
    assert host._debian_like(tmp_path / "os-release") is expected


def test_nobody_at_the_terminal_means_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert not ask("?", yes=False)
    assert ask("?", yes=True)


@pytest.mark.parametrize(
    ("where", "says"),
    [
        (Host(debian_like=False, prefix=()), "Podman"),
        (Host(debian_like=True, prefix=None), "as root: apt-get install docker.io"),
    ],
)
def test_where_we_may_not_install_the_error_says_exactly_what_to_do(where: Host, says: str) -> None:
    with pytest.raises(InstallRefused) as caught:
        install_packages(where, ["docker.io"], "no engine", yes=True, say=lambda line: None)
    assert says in caught.value.remedy


def test_without_consent_nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    monkeypatch.setattr(host.subprocess, "run", lambda *a, **k: calls.append(a))
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(InstallRefused) as caught:
        install_packages(Host(True, ()), ["docker.io"], "no engine", yes=False, say=lambda line: None)
    assert "--yes" in caught.value.remedy
    assert calls == []
