"""What was said on a session's streams, so that a client that lost its connection can hear the rest.

2025-11-25, basic/transports "Resumability and Redelivery": an event's id names its stream and its place there, and a GET
with ``Last-Event-ID`` goes on with that stream and no other.  Only streams that have begun are remembered, and of them the
newest events: a plain JSON response costs nothing here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.limits import LIMITS

STANDING: Final = "g"  # the session's GET stream: one, however often the client comes back to it


@dataclass(frozen=True, slots=True)
class Event:
    stream: str
    number: int
    message: bytes

    @property
    def id(self) -> str:
        return f"{self.stream}-{self.number}"


class Follower:
    """A connection on which a stream goes on."""

    def follow(self, event: Event) -> None:
        raise TypeError("a connection must say how it carries an event")

    def end(self) -> None:
        """The stream is over, or another connection carries it now."""


class StreamLog:
    def __init__(self, replay: Replay, name: str) -> None:
        self.name = name
        self.events: deque[Event] = deque()
        self.complete = False
        self._replay = replay
        self._last = 0
        self._follower: Follower | None = None

    @property
    def followed(self) -> bool:
        return self._follower is not None

    def add(self, message: bytes) -> Event:
        """Remember ``message`` as the stream's next; whoever resumed the stream hears it."""
        self._last += 1
        event = Event(self.name, self._last, message)
        self.events.append(event)
        self._replay.grew(event)
        if self._follower is not None:
            self._follower.follow(event)
        return event

    def after(self, number: int) -> list[Event]:
        return [event for event in self.events if event.number > number]

    def resume(self, follower: Follower, number: int) -> None:
        """``follower`` gets what came after ``number``, and what is yet to come."""
        self.leave(self._follower)
        for event in self.after(number):
            follower.follow(event)
        if self.complete:
            follower.end()
        else:
            self._follower = follower

    def leave(self, follower: Follower | None) -> None:
        if follower is not None and self._follower is follower:
            self._follower = None
            follower.end()

    def finish(self) -> None:
        """Nothing more will be said."""
        self.complete = True
        self.leave(self._follower)


class Replay:
    """The streams of one session, within ``LIMITS.replay_bytes`` and ``LIMITS.replay_s``."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._streams: dict[str, StreamLog] = {}
        self._order: deque[tuple[float, StreamLog, int]] = deque()  # (when, stream, size), oldest first
        self._bytes = 0
        self._opened = 0
        self.standing = self._add(STANDING)

    def open(self) -> StreamLog:
        self._opened += 1
        return self._add(str(self._opened))

    def find(self, event_id: str) -> tuple[StreamLog, int] | None:
        """The stream of ``event_id`` and its number there; None when it is not, or no longer, known."""
        name, _, number = event_id.rpartition("-")
        log = self._streams.get(name)
        if log is None or not number.isascii() or not number.isdigit() or len(number) > 18:
            return None
        return log, int(number)

    def grew(self, event: Event) -> None:
        self._order.append((self._clock(), self._streams[event.stream], len(event.message)))
        self._bytes += len(event.message)
        while self._bytes > LIMITS.replay_bytes:
            self._forget_oldest()

    def prune(self) -> None:
        """Forget what is too old for anyone to come back for."""
        limit = self._clock() - LIMITS.replay_s
        while self._order and self._order[0][0] < limit:
            self._forget_oldest()

    def _add(self, name: str) -> StreamLog:
        log = self._streams[name] = StreamLog(self, name)
        return log

    def _forget_oldest(self) -> None:
        _, log, size = self._order.popleft()
        log.events.popleft()
        self._bytes -= size
        if log.complete and not log.events:
            self._streams.pop(log.name, None)
