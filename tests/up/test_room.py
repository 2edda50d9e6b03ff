from collections import namedtuple
from pathlib import Path

import pytest

from harbourmaster.core.settings import Settings
from harbourmaster.up import room
from harbourmaster.up.errors import NoRoom

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch):
    """Says how many bytes every disk has left."""

    def set_free(count: int) -> None:
        monkeypatch.setattr(room.shutil, "disk_usage", lambda place: Usage(count, 0, count))

    return set_free


def test_places_on_one_file_system_are_one_disk_and_are_both_named(settings: Settings, tmp_path: Path) -> None:
    (disk,) = room.disks(settings, str(tmp_path))
    assert disk.use == "HM_HOME and the engine's images"
    assert disk.place.exists()
    (alone,) = room.disks(settings, str(tmp_path / "not" / "here"))
    assert alone.use == "HM_HOME"


def test_a_full_disk_is_refused_before_anything_is_built(settings: Settings, free) -> None:
    free(room.LEAST_DISK_BYTES - 1)
    with pytest.raises(NoRoom, match="disk is full") as e:
        room.require_room(settings, "", print)
    assert "HM_HOME" in e.value.remedy


def test_a_full_disk_does_not_keep_from_running_what_is_built(settings: Settings, free) -> None:
    free(room.LEAST_DISK_BYTES - 1)
    settings.home.mkdir()
    settings.lock_file.touch()
    said: list[str] = []
    room.require_room(settings, "", said.append)
    assert "nearly full" in said[0]


def test_scarce_memory_is_said_and_plenty_is_not(settings: Settings, free, monkeypatch: pytest.MonkeyPatch) -> None:
    free(room.LOW_DISK_BYTES)
    said: list[str] = []
    monkeypatch.setattr(room, "free_memory", lambda: room.LOW_MEMORY_BYTES)
    room.require_room(settings, "", said.append)
    assert said == []
    monkeypatch.setattr(room, "free_memory", lambda: 100 << 20)
    room.require_room(settings, "", said.append)
    assert "0.1 GB" in said[0]


def test_the_least_of_machine_and_cgroup_is_what_is_free(tmp_path: Path) -> None:
    meminfo, limit, used = tmp_path / "meminfo", tmp_path / "max", tmp_path / "current"
    meminfo.write_text("MemTotal: 8000 kB\nMemAvailable:    4000 kB\n")
    assert room.free_memory(meminfo, ()) == 4000 << 10
    limit.write_text("3000\n")
    used.write_text("1000\n")
    assert room.free_memory(meminfo, [(limit, used)]) == 2000
    limit.write_text("max\n")
    assert room.free_memory(meminfo, [(limit, used)]) == 4000 << 10
    assert room.free_memory(tmp_path / "none", ()) == 0
