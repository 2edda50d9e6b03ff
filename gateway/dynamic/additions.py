"""What one client added and set in a conversation; it ends with the session, or with a modern client that goes idle."""

from __future__ import annotations

from typing import Any

from gateway.dynamic.overlay import Ground, Wishes, index_for, still_wished
from gateway.index import Index


class Additions:
    """``base``: the index of whoever added nothing."""

    __slots__ = ("_base", "_info", "ground", "index", "wishes")

    def __init__(self, ground: Ground, info: dict[str, Any], base: Index) -> None:
        self.ground = ground
        self.wishes = Wishes()
        self.index = base
        self._base = base
        self._info = info

    def wish(self, wishes: Wishes) -> None:
        self.wishes = wishes
        self.index = index_for(self.ground, wishes, self._info, self._base, self.index)

    def rebase(self, ground: Ground, base: Index) -> None:
        """The lock or the profile changed."""
        self.ground, self._base = ground, base
        self.wish(still_wished(ground, self.wishes))
