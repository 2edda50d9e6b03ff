"""What was said on which stream, so that a client that lost its connection can hear the rest (Last-Event-ID)."""

from __future__ import annotations

from mcp.server.streamable_http import EventCallback, EventId, EventMessage, EventStore, StreamId
from mcp_types import JSONRPCMessage


class Remembered(EventStore):
    """Everything, in order, for as long as the process lives; an event's id is its place."""

    def __init__(self) -> None:
        self._events: list[tuple[StreamId, JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: StreamId, message: JSONRPCMessage | None) -> EventId:
        self._events.append((stream_id, message))
        return str(len(self._events) - 1)

    async def replay_events_after(self, last_event_id: EventId, send_callback: EventCallback) -> StreamId | None:
        if not last_event_id.isdigit() or int(last_event_id) >= len(self._events):
            return None
        stream = self._events[int(last_event_id)][0]
        for place in range(int(last_event_id) + 1, len(self._events)):
            owner, message = self._events[place]
            if owner == stream and message is not None:
                await send_callback(EventMessage(message, str(place)))
        return stream
