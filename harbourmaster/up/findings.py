"""What `hm doctor` finds: the thing, how it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from harbourmaster.core.settings import Settings

Level = Literal["ok", "odd", "missing"]


@dataclass(frozen=True)
class Finding:
    name: str
    level: Level
    text: str
    remedy: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


Check = Callable[[Settings], Iterator[Finding]]
