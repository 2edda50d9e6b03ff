"""The audit of calls: one record each, without argument values; when it cannot be written, calls stop."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any, Final

from gateway.cli_output import visible
from gateway.drift import Drift
from harbourmaster.core.errors import HarbourError

Append = Callable[[dict[str, Any]], None]  # harbourmaster.core.audit.AuditLog.append


MAX_NAMES = 50  # of what differs, in one record
MAX_NAME = 200  # characters
MAX_TOOL: Final = 1024  # characters of a tool's, prompt's or resource's name; an audit record holds no text over 4096
MAX_SERVERS = 200  # named in the record of a start; an audit record holds no longer list than 256 (core/audit_chain.py)


class Recorder:
    def __init__(self, append: Append, told: Append = lambda record: None) -> None:
        """``told``: hears of what was recorded."""
        self._append = append
        self._told = told
        self.down = False

    def check(self) -> None:
        """Raise what the audit raises while it is down; a call must not even begin then."""
        if self.down:
            self._append({"kind": "gateway", "event": "audit_resumed"})
            self.down = False

    def call(self, record: dict[str, Any]) -> HarbourError | None:
        """Write ``record``; the error when it could not be, and the client must not have the result either."""
        tool = record.get("tool", "")
        if len(tool) > MAX_TOOL or not tool.isascii():
            record = {**record, "tool": told(tool)}
        try:
            self._append(record)
        except HarbourError as e:
            self.down = True
            return e
        self._told(record)
        return None

    def event(self, **fields: Any) -> None:
        """A gateway event; raises when it cannot be recorded."""
        self._append({"kind": "gateway", **fields})


def told(name: str) -> str:
    """``name`` as a record can hold it.  A resource is called what its caller calls it: a name that no record could hold
    would make a call that nobody ever hears of."""
    text = name.encode("utf-8", "backslashreplace").decode()
    if len(text) <= MAX_TOOL:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{text[:MAX_TOOL]}... ({len(text)} characters, sha256:{digest})"


def pin_record(server: str, sandbox: str, drift: Drift) -> dict[str, Any]:
    """Names alone: the text that changed is in ``HM_HOME/held``, for review."""

    def names(found: Iterable[str]) -> list[str]:
        shown = [visible(f"{drift.part}/{name}")[:MAX_NAME] for name in sorted(found)[:MAX_NAMES]]
        return [name.encode("utf-8", "backslashreplace").decode() for name in shown]  # half a surrogate pair is no text

    record = {"kind": "pin", "event": "held", "server": server, "sandbox": sandbox}
    return {**record, "changed": names(drift.changed), "added": names(drift.added), "missing": names(drift.missing)}
