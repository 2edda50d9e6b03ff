"""The parts of the MCP SDK that need its whole import (0.8 s): loaded when first used, or ahead of time in a thread.

Only pure helpers; never its per-message server (`mcp.server`), whose models drop fields that they do not know.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

_IMPORTING = threading.Lock()  # two threads that enter the package's import cycles from two ends deadlock


def preload() -> None:
    with _IMPORTING:
        import mcp.shared.inbound
        import mcp.shared.uri_template  # noqa: F401


def param_header_mismatch(input_schema: Any, arguments: Mapping[str, Any], headers: Mapping[str, str]) -> str | None:
    """Why the ``Mcp-Param-*`` headers disagree with the arguments (2026-07-28, transports "Custom Headers"), or None."""
    with _IMPORTING:
        from mcp.shared.inbound import validate_mcp_param_headers

    rejection = validate_mcp_param_headers(input_schema, arguments, headers)
    return rejection.message if rejection is not None else None


def decode_header(value: str) -> str | None:
    """The value of an ``Mcp-Name`` header that may carry the base64 sentinel; None when malformed."""
    with _IMPORTING:
        from mcp.shared.inbound import decode_header_value

    return decode_header_value(value)


def template_matches(template: str, uri: str) -> bool:
    """Whether the RFC 6570 template can produce ``uri``; templates we cannot parse match nothing."""
    parsed = _parsed(template)
    return parsed is not None and parsed.match(uri) is not None


@lru_cache(maxsize=4096)
def _parsed(template: str) -> Any:
    with _IMPORTING:
        from mcp.shared.uri_template import InvalidUriTemplate, UriTemplate

    try:
        return UriTemplate.parse(template)
    except InvalidUriTemplate:
        return None


def encode_header(value: str) -> str:
    """``value`` as a header can carry it: as it is, or in base64 (2026-07-28, transports "Value Encoding")."""
    with _IMPORTING:
        from mcp.shared.inbound import encode_header_value

    return encode_header_value(value)


def param_headers(input_schema: Any, arguments: Mapping[str, Any]) -> dict[str, str]:
    """The ``Mcp-Param-*`` headers for ``arguments``; a schema with invalid annotations asks for none."""
    with _IMPORTING:
        from mcp.shared.inbound import find_invalid_x_mcp_header, mcp_param_headers, x_mcp_header_map

    if find_invalid_x_mcp_header(input_schema) is not None:
        return {}
    return mcp_param_headers(x_mcp_header_map(input_schema), arguments)


def bad_header_annotation(input_schema: Any) -> str | None:
    """Why a tool with this schema may not be offered over HTTP (2026-07-28, transports "Custom Headers"), or None."""
    with _IMPORTING:
        from mcp.shared.inbound import find_invalid_x_mcp_header

    return find_invalid_x_mcp_header(input_schema)
