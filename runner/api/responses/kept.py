"""Responses that later requests refer to: in memory, for an hour, within a limit of bytes; the oldest go first."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from runner.api.responses.request import Conversation
from runner.errors import ResponseNotFound

KEPT_S = 3600.0  # as Docker's runner
MAX_KEPT = 1000
MAX_BYTES = 128 << 20


@dataclass(frozen=True)
class Kept:
    response: dict[str, Any]
    inputs: list[dict[str, Any]]
    talk: Conversation
    at: float
    size: int


@dataclass
class KeptResponses:
    clock: Callable[[], float] = time.monotonic
    _all: OrderedDict[str, Kept] = field(default_factory=OrderedDict)
    _bytes: int = 0

    def put(self, response: dict[str, Any], inputs: list[dict[str, Any]], talk: Conversation) -> None:
        size = len(orjson.dumps([response, inputs, talk.messages]))
        if size > MAX_BYTES:
            return
        self._all[response["id"]] = Kept(response, inputs, talk, self.clock(), size)
        self._bytes += size
        self._expire()

    def get(self, name: str) -> Kept:
        """Raises ``ResponseNotFound``."""
        self._expire()
        if name not in self._all:
            raise ResponseNotFound(
                f"there is no response {name}",
                remedy=f"responses are kept for {KEPT_S / 60:g} minutes, unless store is false",
                param="previous_response_id",
            )
        return self._all[name]

    def remove(self, name: str) -> None:
        self._bytes -= self.get(name).size
        del self._all[name]

    def _expire(self) -> None:
        oldest = next(iter(self._all.values()), None)
        while oldest and (self.clock() - oldest.at > KEPT_S or len(self._all) > MAX_KEPT or self._bytes > MAX_BYTES):
            self._all.popitem(last=False)
            self._bytes -= oldest.size
            oldest = next(iter(self._all.values()), None)
