"""The gateway's errors, and how each looks on the wire.

GatewayError tree (all are ``HarbourError``):

UnknownTool / UnknownPrompt / UnknownResource   no enabled server offers it
BadRequest                                      the message breaks the protocol
LockInvalid, TokenFileInvalid                   a state file cannot be read
LockUnknown, LockMoved, NotAgreed, NothingHeld  ``hm lock``: no such server, changed meanwhile, no yes, nothing to approve
ServerChanged                                   what admission vouches for is not what the lock names
PinChanged, PinUnverified                       a running server lists something else than was locked, or does not list
CallTimeout, StartTimeout                       a server did not answer in time
ServerExited, StartFailed, NoChannel            a server is gone, or cannot be reached, or may not ask
SandboxEvicted                                  its sandbox had to make room while the session lived
StateLost                                       a multi-round-trip call whose other half no longer exists
InputDeclined                                   a person did not do what the server wants before the call
TaskLost, TaskTaken                             a task whose sandbox is gone; one that is named like another server's
TooManySandboxes, TooManyCalls, TooManySessions a named limit
"""

from __future__ import annotations

import logging
from typing import Any, ClassVar

from harbourmaster.core.errors import (
    ConfigError,
    EngineError,
    HarbourError,
    LimitError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from harbourmaster.core.redaction import IN_USE

log = logging.getLogger("gateway")

# JSON-RPC 2.0 section 5.1, and the MCP SDKs' number for a timeout.  Restated (a test holds them to mcp_types.jsonrpc):
# importing that package costs the command line 0.3 s, and every command needs these errors.
INVALID_REQUEST = -32600
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
REQUEST_TIMEOUT = -32001

# Implementation-defined band of the protocol's code allocation: -32000..-32019 (2026-07-28, basic/index).
REFUSED = -32010
UNAVAILABLE = -32011
LIMIT_REACHED = -32012
RESOURCE_NOT_FOUND = -32002  # handshake revisions (2025-11-25, server/resources); modern uses INVALID_PARAMS


class BadRequest(HarbourError):
    """The message breaks the protocol; ``rpc`` is the JSON-RPC code to answer with."""

    code = "protocol.bad_request"

    def __init__(self, message: str, *, rpc: int = INVALID_REQUEST, data: Any = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.rpc = rpc
        self.data = data


class UnknownTool(NotFoundError):
    code = "gateway.unknown_tool"
    rpc: ClassVar[int] = INVALID_PARAMS  # 2025-11-25 server/tools, "Error Handling"


class UnknownPrompt(NotFoundError):
    code = "gateway.unknown_prompt"
    rpc: ClassVar[int] = INVALID_PARAMS


class UnknownResource(NotFoundError):
    code = "gateway.unknown_resource"
    rpc: ClassVar[int] = RESOURCE_NOT_FOUND


class LockInvalid(ConfigError):
    code = "lock.invalid"


class LockUnknown(NotFoundError):
    code = "lock.unknown_server"


class LockMoved(HarbourError):
    """The lock changed while a person was looking at what it said."""

    code = "lock.moved"


class NotAgreed(RefusedError):
    code = "lock.not_agreed"


class NothingHeld(NotFoundError):
    code = "lock.nothing_held"


class TokenFileInvalid(ConfigError):
    code = "token.file_invalid"


class TokenExists(HarbourError):
    code = "token.exists"


class TokenUnknown(NotFoundError):
    code = "token.unknown"


class ServerChanged(RefusedError):
    code = "gateway.server_changed"


class PinChanged(RefusedError):
    code = "pin.changed"


class PinUnverified(UnavailableError):
    code = "pin.unverified"


class CallTimeout(UnavailableError):
    code = "gateway.call_timeout"
    rpc: ClassVar[int] = REQUEST_TIMEOUT


class CallCancelled(HarbourError):
    code = "gateway.call_cancelled"
    rpc: ClassVar[int] = -32800  # RequestCancelled, as LSP and the MCP SDKs number it


class StartTimeout(UnavailableError):
    code = "gateway.start_timeout"


class StartFailed(UnavailableError):
    code = "gateway.start_failed"


class ServerExited(UnavailableError):
    code = "gateway.server_exited"


class NoChannel(UnavailableError):
    code = "gateway.no_channel"


class StateLost(UnavailableError):
    code = "gateway.state_lost"


class InputDeclined(RefusedError):
    code = "gateway.input_declined"


class TaskLost(UnavailableError):
    code = "gateway.task_lost"


class TaskTaken(RefusedError):
    code = "gateway.task_taken"


class ShuttingDown(UnavailableError):
    code = "gateway.shutting_down"


class SandboxEvicted(UnavailableError):
    """A session's sandbox was ended although the session lives; told once, at its next call."""

    code = "sandbox.evicted"


class TooManySandboxes(LimitError):
    code = "gateway.too_many_sandboxes"


class TooManyCalls(LimitError):
    code = "gateway.too_many_calls"


class TooManySubscriptions(LimitError):
    code = "gateway.too_many_subscriptions"


class TooManySessions(LimitError):
    code = "gateway.too_many_sessions"


def wire_error(error: BaseException) -> dict[str, Any]:
    """The JSON-RPC ``error`` object for ``error``: its own code and remedy, and nothing of our insides."""
    if isinstance(error, BadRequest):
        body: dict[str, Any] = {"code": error.rpc, "message": error.message}
        if error.data is not None:
            body["data"] = error.data
        return body
    if isinstance(error, HarbourError):
        data: dict[str, Any] = {"code": error.code}
        if error.remedy:
            data["remedy"] = error.remedy
        if (wait := getattr(error, "retry_after_s", None)) is not None:
            data["retry_after_s"] = wait
        if scopes := getattr(error, "scopes", ()):
            data["scopes"] = list(scopes)
        if isinstance(error, UnknownResource):
            data |= error.details  # the URI that was asked for
        return {"code": _rpc_code(error), "message": IN_USE.redact(error.message), "data": data}
    log.error("unexpected error while answering a request", exc_info=error)
    return {"code": INTERNAL_ERROR, "message": "internal error", "data": {"code": "internal"}}


def _rpc_code(error: HarbourError) -> int:
    own = getattr(error, "rpc", None)
    if isinstance(own, int):
        return own
    if isinstance(error, LimitError):
        return LIMIT_REACHED
    if isinstance(error, UnavailableError | EngineError):
        return UNAVAILABLE
    if isinstance(error, RefusedError):
        return REFUSED
    return INTERNAL_ERROR if not isinstance(error, NotFoundError) else INVALID_PARAMS
