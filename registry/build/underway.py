"""What the builds of this process have running elsewhere, so that breaking them off leaves nothing and nobody waits for minutes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from registry.build.errors import BuildFailed


class Underway:
    """For threads.  After ``end`` nothing new starts until ``begin``."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._ends: dict[object, Callable[[], object]] = {}
        self._ended = False

    def begin(self) -> None:
        with self._guard:
            self._ended = False

    def require_wanted(self) -> None:
        """Raises ``BuildFailed`` once the builds were broken off."""
        if self._ended:
            raise BuildFailed("the build was broken off", remedy="start it again: what was finished stays")

    @contextlib.contextmanager
    def held(self, end: Callable[[], object]) -> Iterator[None]:
        """A thing that ``end`` stops; raises as ``require_wanted``, having called ``end``."""
        key = object()
        with self._guard:
            self._ends[key] = end
        try:
            if self._ended:
                end()
            self.require_wanted()
            yield
        finally:
            with self._guard:
                del self._ends[key]

    def end(self) -> None:
        with self._guard:
            self._ended, ends = True, list(self._ends.values())
        for each in ends:
            each()


BUILDS = Underway()
