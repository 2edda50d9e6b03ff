"""What the clients of one profile see.  Clients hold the view, so a change reaches them without a new session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.index import Index
from gateway.profiles.schema import DEFAULT, Dynamic
from gateway.profiles.select import Selection

__all__ = ["DEFAULT", "Seen", "View"]


@dataclass(frozen=True)
class Seen:
    """``selection``: what the profile serves; ``index``: as clients get it."""

    selection: Selection
    index: Index


class View:
    """What is seen is made when somebody first looks, and replaced as a whole when the lock or the profile changes.

    ``dynamic``: how the profile's dynamic tools behave; None: there are none.
    """

    __slots__ = ("_make", "_seen", "dynamic", "name")

    def __init__(self, name: str, make: Callable[[], Seen], dynamic: Dynamic | None = None) -> None:
        self.name = name
        self.dynamic = dynamic
        self._make = make
        self._seen: Seen | None = None

    @property
    def seen(self) -> Seen:
        if self._seen is None:
            self._seen = self._make()
        return self._seen

    @property
    def index(self) -> Index:
        seen = self._seen
        return (seen if seen is not None else self.seen).index

    @property
    def looked_at(self) -> bool:
        """Whether anybody can know what it serves."""
        return self._seen is not None

    def replace(self, make: Callable[[], Seen], dynamic: Dynamic | None) -> None:
        self._make, self.dynamic = make, dynamic
        self._seen = make() if self.looked_at else None
