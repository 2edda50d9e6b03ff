"""Which paths of the host a server may be given, and that nothing is taken for what it was."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from sandbox import hostpaths
from sandbox.access import HostPath
from sandbox.errors import HostPathDenied, HostPathMoved, SpecRefused


def at(path: Path | str, *, write: bool = False) -> HostPath:
    return HostPath(str(path), "/data", write)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "harbour").mkdir()
    return tmp_path / "harbour"


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    (tmp_path / "work" / "docs").mkdir(parents=True)
    return tmp_path / "work" / "docs"


def test_a_folder_of_ones_own_may_be_given(docs: Path, home: Path) -> None:
    checked = hostpaths.check(at(docs), home=home, named=False)
    hostpaths.require_same([checked])
    assert checked.inode == docs.stat().st_ino


@pytest.mark.parametrize(
    "path", ["/", "/proc", "/proc/self", "/sys", "/dev", "/dev/shm", "/run", "/var/run", "/var", "/boot"]
)
def test_the_host_itself_is_given_to_nobody_even_by_name(path: str, home: Path) -> None:
    with pytest.raises(HostPathDenied, match="ever given"):
        hostpaths.check(at(hostpaths.canonical(path)), home=home, named=True)


def test_this_installation_and_what_holds_it_are_given_to_nobody(tmp_path: Path, home: Path) -> None:
    (home / "keys").mkdir()
    for path in (home, home / "keys", tmp_path):
        with pytest.raises(HostPathDenied, match="this installation"):
            hostpaths.check(at(path), home=home, named=True)


@pytest.mark.parametrize("path", ["/etc", "/etc/ssl", "/usr/share", "/opt"])
def test_the_system_s_files_need_a_person_who_names_them(path: str, home: Path) -> None:
    with pytest.raises(HostPathDenied, match="belongs to the system") as refused:
        hostpaths.check(at(path), home=home, named=False)
    assert f"--allow {path}:/data:ro" in refused.value.remedy
    hostpaths.check(at(path), home=home, named=True)


@pytest.mark.parametrize("name", [".ssh", ".aws", ".config", ".docker", ".gnupg"])
def test_keys_of_people_and_the_homes_above_them_need_a_person_too(name: str, docs: Path, home: Path) -> None:
    (docs / name / "below").mkdir(parents=True)
    for path in (docs, docs / name, docs / name / "below"):
        with pytest.raises(HostPathDenied, match="keys"):
            hostpaths.check(at(path), home=home, named=False)


def test_sockets_and_folders_of_sockets_are_given_to_nobody(docs: Path, home: Path) -> None:
    with socket.socket(socket.AF_UNIX) as ours:
        ours.bind(str(docs / "engine"))
        for path in (docs, docs / "engine"):
            with pytest.raises(HostPathDenied):
                hostpaths.check(at(path), home=home, named=True)


def test_a_folder_with_sockets_in_a_folder_of_it_needs_a_person_who_names_it(docs: Path, home: Path) -> None:
    """As /tmp is: a bind mount of it holds ssh-agent's socket too."""
    (docs / "ssh-x").mkdir()
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(docs / "ssh-x" / "agent.1"))
        with pytest.raises(HostPathDenied, match="sockets of other programs"):
            hostpaths.check(at(docs), home=home, named=False)
        hostpaths.check(at(docs), home=home, named=True)


def test_everybody_s_homes_together_need_a_person_who_names_them(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = tmp_path / "work" / "home"
    (people / "anna").mkdir(parents=True)
    monkeypatch.setattr(hostpaths, "HOMES", (str(people),))
    for path in (people, people.parent):
        with pytest.raises(HostPathDenied, match="everybody's homes"):
            hostpaths.check(at(path), home=home, named=False)
    hostpaths.check(at(people / "anna"), home=home, named=False)


def test_a_device_is_given_to_nobody(home: Path) -> None:
    with pytest.raises(HostPathDenied):
        hostpaths.check(at("/dev/null"), home=home, named=True)


def test_a_link_is_not_followed_to_somewhere_else(docs: Path, home: Path) -> None:
    innocent = docs.parent / "innocent"
    innocent.symlink_to("/etc")
    with pytest.raises(HostPathMoved, match="is a link to /etc"):
        hostpaths.check(at(innocent), home=home, named=True)
    with pytest.raises(HostPathMoved):  # nor one above it
        hostpaths.check(at(innocent / "ssl"), home=home, named=True)


def test_a_folder_that_cannot_be_looked_into_is_not_given(
    docs: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(path: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.scandir", closed)  # who runs the tests may be root, to whom nothing is closed
    with pytest.raises(HostPathDenied, match="cannot be looked into"):
        hostpaths.check(at(docs), home=home, named=True)


def test_what_is_not_there_is_not_made(docs: Path, home: Path) -> None:
    with pytest.raises(HostPathDenied, match="No such file"):
        hostpaths.check(at(docs / "missing"), home=home, named=True)
    assert not (docs / "missing").exists()


@pytest.mark.parametrize("swap", ["link", "folder", "gone"])
def test_an_exchange_between_check_and_mount_is_noticed(swap: str, docs: Path, home: Path) -> None:
    checked = hostpaths.check(at(docs), home=home, named=False)
    docs.rename(docs.parent / "old")
    if swap == "link":
        docs.symlink_to(home)
    elif swap == "folder":
        docs.mkdir()
    with pytest.raises(HostPathMoved):
        hostpaths.require_same([checked])


@pytest.mark.parametrize("text", ["docs", "../docs", "/srv/../etc", "/srv/docs:/proc", "/srv/docs:/etc/x:rw", "/a:/b:/c:rw", "/srv/docs:x"])  # fmt: skip
def test_a_path_that_cannot_be_mounted_is_refused_as_it_is_read(text: str) -> None:
    with pytest.raises(SpecRefused):
        HostPath.parse(text)


def test_a_path_is_written_as_docker_s_users_know_it() -> None:
    assert HostPath.parse("/srv/docs") == HostPath("/srv/docs", "/srv/docs", False)
    assert HostPath.parse("/srv/docs:/data:rw") == HostPath("/srv/docs", "/data", True)
    assert HostPath.parse("/srv/docs:ro").text == "/srv/docs:/srv/docs:ro"
