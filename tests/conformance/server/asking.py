"""Asking the client something, in whichever way its era has.

handshake: the server sends requests of its own and waits.  modern: the result says what is missing, and the client calls
again; what was answered in earlier rounds travels in the request state, which the SDK seals.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.message import ServerMessageMetadata
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel

Requests = dict[str, types.InputRequest]
Answers = dict[str, Any]  # by key: what the client answered, as on the wire

_RESULTS: dict[str, type[BaseModel]] = {
    "elicitation/create": types.ElicitResult,
    "sampling/createMessage": types.CreateMessageResult,
    "roots/list": types.ListRootsResult,
}


class Suspended(Exception):
    """The request cannot go on before the client has answered ``result``."""

    def __init__(self, result: types.InputRequiredResult) -> None:
        super().__init__("input required")
        self.result = result


class Conversation:
    """What one request asks its client, round after round."""

    def __init__(self, ctx: ServerRequestContext, params: types.InputResponseRequestParams) -> None:
        self._ctx = ctx
        self._params = params
        self._earlier: list[Answers] = json.loads(params.request_state) if params.request_state else []
        self._round = 0

    @property
    def continued(self) -> bool:
        """Whether the client brought back the state that it was given."""
        return self._params.request_state is not None

    async def ask(self, requests: Requests, *, with_state: bool = False) -> Answers:
        """The client's answers; raises ``Suspended`` when a modern client has yet to give them."""
        if self._ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            async with asyncio.TaskGroup() as asking:
                sent = {key: asking.create_task(self._send(request)) for key, request in requests.items()}
            return {key: task.result() for key, task in sent.items()}
        if self._round == len(self._earlier):
            self._earlier.append(self._given(requests, with_state))
        self._round += 1
        return self._earlier[self._round - 1]

    def _given(self, requests: Requests, with_state: bool) -> Answers:
        responses = self._params.input_responses or {}
        given = {key: responses.get(key) for key in requests}
        if all(isinstance(given[key], _RESULTS[request.method]) for key, request in requests.items()):
            return {key: _wire(answer) for key, answer in given.items() if answer is not None}
        state = json.dumps(self._earlier) if with_state or self._earlier else None
        raise Suspended(types.InputRequiredResult(input_requests=requests, request_state=state))

    async def _send(self, request: types.InputRequest) -> dict[str, Any]:
        related = ServerMessageMetadata(related_request_id=self._ctx.request_id)
        answer = await self._ctx.session.send_request(request, _RESULTS[request.method], metadata=related)
        return _wire(answer)


def _wire(answer: BaseModel) -> dict[str, Any]:
    return answer.model_dump(mode="json", by_alias=True, exclude_none=True)


def form(message: str, properties: dict[str, Any], required: list[str] | None = None) -> types.ElicitRequest:
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required is not None:
        schema["required"] = required
    return types.ElicitRequest(params=types.ElicitRequestFormParams(message=message, requested_schema=schema))


def question(message: str, name: str, kind: str = "string") -> types.ElicitRequest:
    """A form with one field that must be filled."""
    return form(message, {name: {"type": kind}}, [name])


def sampling(prompt: str, max_tokens: int = 100) -> types.CreateMessageRequest:
    message = types.SamplingMessage(role="user", content=types.TextContent(type="text", text=prompt))
    return types.CreateMessageRequest(
        params=types.CreateMessageRequestParams(messages=[message], max_tokens=max_tokens)
    )


def roots() -> types.ListRootsRequest:
    return types.ListRootsRequest(params=types.RequestParams())
