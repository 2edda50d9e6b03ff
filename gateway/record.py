"""The audit of calls: one record each, without argument values; when it cannot be written, calls stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harbourmaster.core.errors import HarbourError

Append = Callable[[dict[str, Any]], None]  # harbourmaster.core.audit.AuditLog.append


class Recorder:
    def __init__(self, append: Append) -> None:
        self._append = append
        self._down = False

    def check(self) -> None:
        """Raise what the audit raises while it is down; a call must not even begin then."""
        if self._down:
            self._append({"kind": "gateway", "event": "audit_resumed"})
            self._down = False

    def call(self, record: dict[str, Any]) -> HarbourError | None:
        """Write ``record``; the error when it could not be, and the client must not have the result either."""
        try:
            self._append(record)
        except HarbourError as e:
            self._down = True
            return e
        return None

    def event(self, **fields: Any) -> None:
        """A gateway event; raises when it cannot be recorded."""
        self._append({"kind": "gateway", **fields})
