"""The two eras of the protocol, and which rules a message lives by.

handshake  2024-11-05 .. 2025-11-25: ``initialize``, then a session; the server may ask the client things.
modern     2026-07-28: no session; every request carries its version and the client's capabilities in ``params._meta``,
           and over HTTP repeats method and name in headers, so that whoever routes need not read the body.

The ladder is the SDK's (``mcp.shared.inbound.classify_inbound_request``) restated without its import; a test holds the
two together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway import sdk
from gateway.errors import BadRequest
from gateway.limits import LIMITS
from gateway.messages import encode
from gateway.protocol import (
    CLIENT_CAPABILITIES_META_KEY,
    CLIENT_INFO_META_KEY,
    HANDSHAKE_PROTOCOL_VERSIONS,
    HEADER_MISMATCH,
    INVALID_PARAMS,
    INVALID_REQUEST,
    LATEST_HANDSHAKE_VERSION,
    LATEST_MODERN_VERSION,
    LOG_LEVEL_META_KEY,
    METHOD_NOT_FOUND,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    MODERN_PROTOCOL_VERSIONS,
    PARSE_ERROR,
    PROTOCOL_VERSION_META_KEY,
    SERVER_INFO_META_KEY,
    UNSUPPORTED_PROTOCOL_VERSION,
)

__all__ = [
    "BATCH_VERSION",
    "CLIENT_CAPABILITIES_META_KEY",
    "CLIENT_INFO_META_KEY",
    "HANDSHAKE_PROTOCOL_VERSIONS",
    "HTTP_STATUS",
    "LATEST_HANDSHAKE_VERSION",
    "LATEST_MODERN_VERSION",
    "LOG_LEVELS",
    "LOG_LEVEL_META_KEY",
    "MODERN_PROTOCOL_VERSIONS",
    "PROTOCOL_VERSION_META_KEY",
    "SERVER_INFO_META_KEY",
    "TASKS_EXTENSION",
    "Envelope",
    "check_headers",
    "envelope",
    "has_envelope",
    "is_modern",
    "name_parameter",
    "negotiate",
    "read_envelope",
    "require_modern",
    "wants_tasks",
    "without_envelope",
    "without_tasks",
]

BATCH_VERSION: Final = "2025-03-26"  # the one revision with JSON-RPC batches (2025-06-18 removed them)

# 2026-07-28, transports "Status codes"; the SDK's ERROR_CODE_HTTP_STATUS.
HTTP_STATUS: Final[Mapping[int, int]] = {
    PARSE_ERROR: 400,
    INVALID_REQUEST: 400,
    INVALID_PARAMS: 400,
    HEADER_MISMATCH: 400,
    MISSING_REQUIRED_CLIENT_CAPABILITY: 400,
    UNSUPPORTED_PROTOCOL_VERSION: 400,
    METHOD_NOT_FOUND: 404,
}

# Method -> the parameter that ``Mcp-Name`` repeats (2026-07-28, transports "Routing headers").
NAME_PARAMETER: Final[Mapping[str, str]] = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}

TASKS_EXTENSION: Final = "io.modelcontextprotocol/tasks"
_TASK_METHODS: Final = frozenset({"tasks/get", "tasks/update", "tasks/cancel"})

# RFC 5424 severities, least first (server/utilities/logging).
LOG_LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")

_ENVELOPE_KEYS: Final = frozenset(
    {PROTOCOL_VERSION_META_KEY, CLIENT_INFO_META_KEY, CLIENT_CAPABILITIES_META_KEY, LOG_LEVEL_META_KEY}
)


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a modern request says about itself; shapes beyond presence are the client's own business."""

    version: str
    client_info: Any
    capabilities: dict[str, Any]
    log_level: str | None


def is_modern(version: str) -> bool:
    return version in MODERN_PROTOCOL_VERSIONS


def negotiate(requested: Any) -> str:
    """The revision a handshake settles on: the client's when we know it, else our newest (basic/lifecycle)."""
    return requested if requested in HANDSHAKE_PROTOCOL_VERSIONS else LATEST_HANDSHAKE_VERSION


def has_envelope(params: Any) -> bool:
    """Whether the request is modern: the reserved version key exists in no earlier revision."""
    meta = params.get("_meta") if isinstance(params, dict) else None
    return isinstance(meta, dict) and PROTOCOL_VERSION_META_KEY in meta


def read_envelope(params: Any) -> dict[str, Any]:
    """``params._meta`` with both required keys; raises ``BadRequest``."""
    meta = params.get("_meta") if isinstance(params, dict) else None
    if not isinstance(meta, dict):
        raise BadRequest("params._meta must be an object with the request's envelope", rpc=INVALID_PARAMS)
    missing = [k for k in (PROTOCOL_VERSION_META_KEY, CLIENT_CAPABILITIES_META_KEY) if k not in meta]
    if missing:
        raise BadRequest(f"params._meta lacks {', '.join(missing)}", rpc=INVALID_PARAMS)
    return meta


def envelope(params: Any, method: str, headers: Callable[[str], str | None] | None) -> Envelope:
    """Run the ladder over a modern request; ``headers`` looks one up, None on stdio.  Raises ``BadRequest``."""
    meta = read_envelope(params)
    version = meta[PROTOCOL_VERSION_META_KEY]
    if headers is not None:
        check_headers(headers, method, params, version)
    if not isinstance(version, str):
        raise BadRequest("the envelope's protocol version must be a string", rpc=INVALID_PARAMS)
    require_modern(version)
    capabilities = meta[CLIENT_CAPABILITIES_META_KEY]
    check_introduction(meta.get(CLIENT_INFO_META_KEY), capabilities)
    level = meta.get(LOG_LEVEL_META_KEY)
    return Envelope(
        version,
        meta.get(CLIENT_INFO_META_KEY),
        capabilities if isinstance(capabilities, dict) else {},
        level if level in LOG_LEVELS else None,
    )


def check_introduction(*said: Any) -> None:
    """What a client says about itself is kept while it is there; raises ``BadRequest`` for more than anybody has to say."""
    if len(encode(said)) > LIMITS.introduction_bytes:
        raise BadRequest(
            f"Invalid params: client and capabilities may have {LIMITS.introduction_bytes} bytes", rpc=INVALID_PARAMS
        )


def check_headers(headers: Callable[[str], str | None], method: str, params: dict[str, Any], version: Any) -> None:
    """The routing headers must say what the body says; raises ``BadRequest`` (HEADER_MISMATCH)."""
    found = headers("mcp-protocol-version")
    if found is None or found != version:
        raise _mismatch("mcp-protocol-version", "the request envelope's protocol version")
    if headers("mcp-method") != method:
        raise _mismatch("mcp-method", "the body's method")
    parameter = name_parameter(method)
    if parameter is None or (named := params.get(parameter)) is None:
        return
    said = headers("mcp-name")
    if said is not None and said.startswith("=?base64?"):
        said = sdk.decode_header(said)
    if said != named:
        raise _mismatch("mcp-name", f"the body's {parameter!r} parameter")


def name_parameter(method: str) -> str | None:
    """The parameter that ``Mcp-Name`` repeats; of the tasks extension's methods the task (SEP-2663, "Routing Headers")."""
    return "taskId" if method in _TASK_METHODS else NAME_PARAMETER.get(method)


def require_modern(version: str) -> None:
    if version not in MODERN_PROTOCOL_VERSIONS:
        raise BadRequest(
            "Unsupported protocol version",
            rpc=UNSUPPORTED_PROTOCOL_VERSION,
            data={"supported": list(MODERN_PROTOCOL_VERSIONS), "requested": version},
        )


def _mismatch(header: str, other: str) -> BadRequest:
    return BadRequest(f"{header} header does not match {other}", rpc=HEADER_MISMATCH)


def without_envelope(meta: dict[str, Any]) -> dict[str, Any]:
    """``_meta`` for a handshake server: the reserved keys are the modern wire's own."""
    return {k: v for k, v in meta.items() if k not in _ENVELOPE_KEYS}


def wants_tasks(capabilities: Mapping[str, Any]) -> bool:
    """Whether a modern client declares the extension."""
    extensions = capabilities.get("extensions")
    return isinstance(extensions, dict) and TASKS_EXTENSION in extensions


def without_tasks(capabilities: dict[str, Any]) -> dict[str, Any]:
    """``capabilities`` of a client that is to get answers, and no tasks."""
    if not wants_tasks(capabilities):
        return capabilities
    extensions = {k: v for k, v in capabilities["extensions"].items() if k != TASKS_EXTENSION}
    return {**capabilities, "extensions": extensions}
