"""What happens in the gateway, for people who watch while it does: /admin/events.  Nothing is kept; the audit is the record."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

Listener = Callable[[dict[str, Any]], None]


class Happenings:
    """``publish`` costs a look at an empty set while nobody watches."""

    def __init__(self) -> None:
        self.listeners: set[Listener] = set()

    def publish(self, event: str, **fields: Any) -> None:
        if self.listeners:
            self.tell({"event": event, **fields})

    def recorded(self, record: dict[str, Any]) -> None:
        """An audit record of the gateway's."""
        if self.listeners:
            self.tell({**record, "event": _name(record)})

    def tell(self, happening: dict[str, Any]) -> None:
        happening["at"] = round(time.time(), 3)
        for listener in tuple(self.listeners):
            listener(happening)


def _name(record: dict[str, Any]) -> str:
    """``call``, ``pin.held``, ``gateway.start``"""
    event = record.get("event")
    return f"{record['kind']}.{event}" if event else str(record["kind"])
