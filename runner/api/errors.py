"""Errors in each dialect's own shape.  One table says which HTTP status a code means."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import Response

from harbourmaster.core.errors import (
    HarbourError,
    IntegrityError,
    LimitError,
    NotFoundError,
    RefusedError,
    UsageError,
)
from runner import errors

_STATUS: list[tuple[type[HarbourError], int]] = [  # the first that fits
    (errors.QueueFull, 429),
    (errors.QueueDeadline, 503),
    (errors.NoRoom, 507),
    (errors.DiskFull, 507),
    (errors.RequestTooLarge, 413),
    (errors.ModelInUse, 409),
    (errors.HostRefused, 403),
    (errors.SandboxRefused, 403),
    (errors.ToolServerRefused, 403),
    (errors.ToolsRefused, 424),  # as OpenAI answers when a tool server does not list its tools
    (errors.ToolsUnavailable, 424),
    (errors.TokenRefused, 401),
    (errors.ToolCallInvalid, 502),
    (errors.EngineDied, 502),
    (errors.EngineMissing, 503),
    (errors.Cancelled, 499),
    (NotFoundError, 404),
    (UsageError, 400),
    (RefusedError, 400),
    (LimitError, 429),
    (IntegrityError, 422),
]
_OPENAI_CODES = {  # codes that OpenAI's clients know
    errors.ModelNotFound.code: "model_not_found",
    errors.PromptTooLong.code: "context_length_exceeded",
}
_ANTHROPIC_TYPES = {  # Anthropic API reference, "errors"
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def status_of(error: HarbourError) -> int:
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def openai_body(error: HarbourError) -> dict[str, Any]:
    status = status_of(error)
    message = f"{error.message} ({error.remedy})" if error.remedy else error.message
    kind = "invalid_request_error" if status in (400, 404, 413, 422) else "server_error"
    return {
        "error": {
            "message": message,
            "type": "rate_limit_error" if status == 429 else kind,
            "param": error.details.get("param"),
            "code": _OPENAI_CODES.get(error.code, error.code),
        }
    }


def anthropic_body(error: HarbourError) -> dict[str, Any]:
    message = f"{error.message} ({error.remedy})" if error.remedy else error.message
    return {
        "type": "error",
        "error": {"type": _ANTHROPIC_TYPES.get(status_of(error), "api_error"), "message": message},
    }


def ollama_body(error: HarbourError) -> dict[str, Any]:
    return {"error": f"{error.message} ({error.remedy})" if error.remedy else error.message}


def response_for(error: HarbourError, path: str) -> Response:
    """In the dialect that ``path`` belongs to."""
    headers = {}
    if "retry_after_s" in error.details:
        headers["Retry-After"] = str(error.details["retry_after_s"])
    status = status_of(error)
    if path.startswith(("/models", "/engines/_")) or path in _PLAIN:  # Docker's management errors are plain text
        text = f"{error.message}\n{error.remedy}\n" if error.remedy else f"{error.message}\n"
        return Response(text, status, headers, "text/plain; charset=utf-8")
    if path.startswith("/api/"):
        body = ollama_body(error)
    elif path.endswith(("/messages", "/messages/count_tokens")):
        body = anthropic_body(error)
    else:
        body = openai_body(error)
    return Response(orjson.dumps(body), status, headers, "application/json")


_PLAIN = frozenset({"/engines/ps", "/engines/df", "/engines/unload", "/engines/status"})
