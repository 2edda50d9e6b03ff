"""What the clients of one profile see.  Clients hold the view, so a change reaches them without a new session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.index import Index
from gateway.profiles.schema import Dynamic

DEFAULT: Final = "default"  # served at /mcp; every enabled server, unless a file of that name says otherwise


class View:
    """``index`` is made when somebody first looks, and replaced as a whole when the lock or the profile changes.

    ``dynamic``: how the profile's dynamic tools behave; None: there are none.
    """

    __slots__ = ("_index", "_make", "dynamic", "name")

    def __init__(self, name: str, make: Callable[[], Index], dynamic: Dynamic | None = None) -> None:
        self.name = name
        self.dynamic = dynamic
        self._make = make
        self._index: Index | None = None

    @property
    def index(self) -> Index:
        if self._index is None:
            self._index = self._make()
        return self._index

    @property
    def looked_at(self) -> bool:
        """Whether anybody can know what it serves."""
        return self._index is not None

    def replace(self, make: Callable[[], Index], dynamic: Dynamic | None) -> None:
        self._make, self.dynamic = make, dynamic
        self._index = make() if self.looked_at else None
