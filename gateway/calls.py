"""One request on its way through the gateway, and the outlet its side messages leave by."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gateway.messages import RequestId
from harbourmaster.core.errors import HarbourError

if TYPE_CHECKING:
    from gateway.upstream import Upstream


class Outlet:
    """Takes messages about one request (or one session) to the client, in order, before the result.

    This base carries nothing: it stands in where there is no client (a server's own handshake).
    """

    gone: bool = False  # the client has left; nothing will be read any more
    refused: HarbourError | None = None  # why the gateway itself, and not a server, answers with an error

    @property
    def reachable(self) -> bool:
        """Whether the client hears what is pushed now, not only when it comes back."""
        return not self.gone

    def push(self, message: bytes) -> bool:
        """Queue ``message``; False when this outlet cannot carry it."""
        return False

    def watch(self) -> None:
        """Begin to notice the client leaving.  Only slow requests pay for it."""

    def ping(self) -> None:
        """Show that the stream is alive, if it is one."""

    def close(self) -> None:
        """End a standing stream."""


NOWHERE: Final = Outlet()


@dataclass(slots=True)
class Question:
    """A server's request that a modern client will see as an input request."""

    server_id: RequestId
    method: str
    params: dict[str, Any]
    size: int = 0  # bytes, encoded


ASKED: Final[dict[str, Any]] = {}  # what ``Call.turn`` yields when the server asked something instead of answering


_NOTHING: Final[frozenset[str]] = frozenset()


class Call:
    """In flight between a client and a server.  ``turn`` yields the server's response, or ``ASKED``."""

    __slots__ = (
        "began_task",
        "deadline",
        "held",
        "key",
        "log_level",
        "method",
        "notes",
        "outlet",
        "parked",
        "part_of",
        "progress_token",
        "questions",
        "quotas",
        "span",
        "started",
        "timeout",
        "turn",
        "upstream",
        "upstream_id",
        "whole",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        method: str,
        outlet: Outlet,
        timeout: float,
        log_level: str | None = None,
        turn: Any = None,
    ) -> None:
        """``turn``: what is told the outcome in place of a future."""
        self.key: RequestId = 0  # where the client's table has it
        self.method = method
        self.outlet = outlet
        self.timeout = timeout
        self.log_level = log_level
        self.parked = False  # it waits for a person's answer, and its server with it
        self.turn: asyncio.Future[dict[str, Any]] = turn if turn is not None else loop.create_future()
        self.started = loop.time()
        self.deadline = self.started + timeout
        self.progress_token: RequestId | None = None
        self.questions: dict[str, Question] = {}
        self.upstream: Upstream | None = None
        self.upstream_id = 0
        self.quotas: tuple[Any, ...] = ()  # gateway.authorization.quotas.Quota: what it counts against
        self.span: Any = None  # gateway.telemetry.traces.Span, where the call is traced
        self.began_task = False  # the answer is a task's, and its result comes later
        self.part_of: Call | None = None  # the call of one of our own tools that makes this one
        self.whole = False  # its parts must be answered in one go: a script cannot be left and taken up again
        self.held: frozenset[str] = _NOTHING  # what of it, or of its parts, waits for `hm approve`
        self.notes: list[str] = []  # what interceptors found, for the audit

    def note(self, *notes: str) -> None:
        self.notes += [note for note in notes if note not in self.notes]

    def settle(self, body: dict[str, Any]) -> None:
        if not self.turn.done():
            self.turn.set_result(body)

    def fail(self, error: BaseException) -> None:
        if not self.turn.done():
            self.turn.set_exception(error)
            self.turn.exception()  # retrieved: a failure that nobody waits for any more is not an unhandled error

    def next_turn(self, loop: asyncio.AbstractEventLoop, timeout: float) -> None:
        """Wait for the server once more."""
        self.turn = loop.create_future()
        self.timeout = timeout
        self.deadline = loop.time() + timeout

    def touch(self, now: float) -> None:
        """The server showed progress: it has its whole time again (2025-11-25, basic/lifecycle "Timeouts")."""
        self.deadline = now + self.timeout
