"""The folder of calls that wait for a person (HM_HOME/run/approvals, 0700): one file per call, and one per answer."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from harbourmaster.core.files import SECRET_MODE, make_private_dir, write_atomic


def hold(folder: Path, held: str, facts: dict[str, Any]) -> None:
    make_private_dir(folder)
    write_atomic(folder / f"{held}.json", json.dumps({**facts, "pid": os.getpid()}).encode(), mode=SECRET_MODE)


def held_calls(folder: Path) -> list[dict[str, Any]]:
    """What waits now, oldest first; files of gateways that ended and what is late are left out."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            facts = json.loads(path.read_bytes())
            if facts["until"] > time.time() and _alive(facts["pid"]):
                found.append({"id": path.stem, **facts})
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return sorted(found, key=lambda facts: facts["since"])


def answer(folder: Path, held: str, yes: bool) -> None:
    write_atomic(answers(folder, held)[0 if yes else 1], b"", mode=SECRET_MODE)


def answers(folder: Path, held: str) -> tuple[Path, Path]:
    return folder / f"{held}.yes", folder / f"{held}.no"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def forget(folder: Path, held: str) -> None:
    for path in (folder / f"{held}.json", *answers(folder, held)):
        with contextlib.suppress(OSError):
            path.unlink()
