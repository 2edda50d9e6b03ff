"""The audit on file systems that are really full: what was refused is not there, what was taken is there once."""

from __future__ import annotations

import errno
import time
from pathlib import Path

import pytest

from harbourmaster.core.audit import tail, verify
from harbourmaster.core.audit_trail import Stamped, Trail
from tests.fixtures.disks import fill, small_disk


@pytest.mark.parametrize("blocks", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_with_room_for_so_many_blocks_every_record_gets_in_once_and_the_chain_holds(
    tmp_path: Path, kind: str, blocks: int
) -> None:
    """With one block there is room for the first records, and none for the head that says where they end."""
    with small_disk(kind, tmp_path) as disk:
        place = disk / "audit"
        trail = Trail(place)
        filler = fill(disk, leave=blocks)
        waiting: list[Stamped] = []
        refused: set[int | None] = set()
        for number in range(40):
            waiting.append((time.time(), {"kind": "call", "server": f"s{number}", "tool": "t" * 400}))
            try:
                trail.append(waiting)
                waiting = []
            except OSError as e:
                refused.add(e.errno)
            assert verify(place).records == number + 1 - len(waiting)
        assert refused == {errno.ENOSPC}
        filler.unlink()
        trail.append(waiting)
        assert [record["server"] for record in tail(place, 100)] == [f"s{number}" for number in range(40)]
        assert verify(place).records == 40
