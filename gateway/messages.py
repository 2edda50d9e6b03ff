"""JSON-RPC messages as parsed JSON: decoded once, classified, encoded once, never turned into models.

What is decoded is what is forwarded: a message is re-encoded from the parsed value, so a duplicate key or odd spacing
cannot mean one thing to the gateway and another to the peer behind it.  Numbers survive exactly: orjson rounds integers
beyond 64 bits to floats, so messages that might hold one take the standard library's slower road, as do lone surrogates.
"""

from __future__ import annotations

import json
from typing import Any, Final

import orjson

from gateway.errors import BadRequest, wire_error
from gateway.protocol import INVALID_REQUEST, PARSE_ERROR

RequestId = str | int

REQUEST: Final = 0
NOTIFICATION: Final = 1
RESPONSE: Final = 2

_LONG_NUMBER: Final = b"0" * 19  # the shortest run of digits that can leave the 64-bit range
_DIGITS: Final = bytes(0x30 if 0x30 <= c <= 0x39 else 0x20 for c in range(256))


def decode(raw: bytes | bytearray) -> Any:
    """The JSON value in ``raw``; raises ``BadRequest`` (PARSE_ERROR) for anything that is not strict JSON."""
    if _LONG_NUMBER not in raw.translate(_DIGITS):
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError:
            pass
    try:
        return json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as e:
        raise BadRequest("Parse error: the body is not valid JSON", rpc=PARSE_ERROR) from e


def encode(value: Any) -> bytes:
    """Compact JSON without a newline."""
    try:
        return orjson.dumps(value)
    except TypeError:  # integers over 64 bits, lone surrogates, nesting over orjson's 254 levels
        try:
            return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
        except RecursionError as e:
            raise BadRequest("Parse error: nested too deeply", rpc=PARSE_ERROR) from e


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def kind_of(body: Any) -> int:
    """REQUEST, NOTIFICATION or RESPONSE; raises ``BadRequest`` (INVALID_REQUEST) for anything else."""
    if type(body) is dict and body.get("jsonrpc") == "2.0" and type(body.get("id")) in _IDS:  # nearly every message
        if type(body.get("method")) is str and type(body.get("params")) is dict:
            return REQUEST
        if body.get("method") is None and ("result" in body) != ("error" in body):
            return RESPONSE
    if not isinstance(body, dict) or body.get("jsonrpc") != "2.0":
        raise BadRequest('Invalid Request: expected one JSON-RPC object with "jsonrpc": "2.0"', rpc=INVALID_REQUEST)
    method = body.get("method")
    if method is None:
        return _response_kind(body)
    if not isinstance(method, str):
        raise BadRequest("Invalid Request: method must be a string", rpc=INVALID_REQUEST)
    if not isinstance(body.get("params", _NO_PARAMS), dict):
        raise BadRequest("Invalid Request: params must be an object", rpc=INVALID_REQUEST)
    if "id" not in body:
        return NOTIFICATION
    if not is_request_id(body["id"]):
        raise BadRequest("Invalid Request: id must be a string or an integer", rpc=INVALID_REQUEST)
    return REQUEST


_NO_PARAMS: Final[dict[str, Any]] = {}
_IDS: Final = frozenset({str, int})


def _response_kind(body: dict[str, Any]) -> int:
    if "id" not in body or ("result" in body) == ("error" in body):
        raise BadRequest("Invalid Request: neither a request, a notification nor a response", rpc=INVALID_REQUEST)
    return RESPONSE


def is_request_id(value: Any) -> bool:
    """MCP ids are strings or integers (basic/index, "Requests"); JSON ``true`` is not an integer."""
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def id_of(body: Any) -> RequestId | None:
    """The usable id of a message that may be malformed, so that its error can name it."""
    value = body.get("id") if isinstance(body, dict) else None
    return value if is_request_id(value) else None


def result_message(request_id: RequestId, result: Any) -> bytes:
    return encode({"jsonrpc": "2.0", "id": request_id, "result": result})


def result_of_json(request_id: RequestId, result: bytes) -> bytes:
    """A response around a result that is already JSON (an index page)."""
    return b'{"jsonrpc":"2.0","id":' + encode(request_id) + b',"result":' + result + b"}"


def error_message(request_id: RequestId | None, error: BaseException) -> bytes:
    return encode({"jsonrpc": "2.0", "id": request_id, "error": wire_error(error)})


def notification(method: str, params: dict[str, Any] | None = None) -> bytes:
    body: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    if params is not None:
        body["params"] = params
    return encode(body)
