"""What a request is answered, when it is no server that answers.  Pure."""

from __future__ import annotations

from typing import Any

from gateway.errors import wire_error
from gateway.interceptors.errors import ArgumentsInvalid
from gateway.messages import RequestId, encode
from gateway.shape import shape_error

Reply = tuple[bytes, int]  # the message, and its JSON-RPC error code (0: a result)


def failure(request_id: RequestId | None, error: BaseException, *, modern: bool = False) -> Reply:
    if isinstance(error, ArgumentsInvalid):
        return encode({"jsonrpc": "2.0", "id": request_id, "result": _told(error, modern)}), 0
    body = wire_error(error)
    if modern:
        shape_error(body)
    return encode({"jsonrpc": "2.0", "id": request_id, "error": body}), body["code"]


def _told(error: ArgumentsInvalid, modern: bool) -> dict[str, Any]:
    return {**error.result(), "resultType": "complete"} if modern else error.result()
