"""Errors of the command line's own MCP client."""

from __future__ import annotations

import re
from typing import Any, cast

from harbourmaster.core.errors import HarbourError, NotFoundError, RefusedError, UnavailableError, UsageError

_CODE = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")


class ToolUnknown(NotFoundError):
    code = "tool.unknown"


class ToolAmbiguous(UsageError):
    code = "tool.ambiguous"


class ServerUnknown(NotFoundError):
    code = "server.unknown"


class ArgumentsInvalid(UsageError):
    code = "tool.arguments_invalid"


class ToolFailed(HarbourError):
    """The tool ran and reported an error (``isError``); the message is what it said."""

    code = "tool.failed"


class GatewayRefused(HarbourError):
    """The gateway answered with an error; ``code`` is the gateway's own where it names one."""

    code = "gateway.error"


class TokenRefused(RefusedError):
    code = "token.refused"


class NotAGateway(UnavailableError):
    code = "gateway.unreadable_answer"


class GatewayLost(UnavailableError):
    code = "gateway.lost"


def refused(error: Any) -> GatewayRefused:
    """The exception for a JSON-RPC ``error`` object, carrying the code and remedy that the gateway put into it."""
    body = error if isinstance(error, dict) else {}
    data = body.get("data")
    data = data if isinstance(data, dict) else {}
    code, remedy = data.get("code"), data.get("remedy")
    kind: type[GatewayRefused] = GatewayRefused
    if isinstance(code, str) and _CODE.fullmatch(code):
        kind = cast(type[GatewayRefused], type(GatewayRefused.__name__, (GatewayRefused,), {"code": code}))
    return kind(
        str(body.get("message") or "the gateway refused without saying why"),
        remedy=remedy if isinstance(remedy, str) else "",
        rpc=body.get("code"),
    )
