"""Tool results of the gateway's own tools.  Pure."""

from __future__ import annotations

import json
from typing import Any, Final

from harbourmaster.core.errors import HarbourError
from harbourmaster.core.redaction import IN_USE

_TOLD: Final = ("touches", "accept")


def said(body: dict[str, Any]) -> dict[str, Any]:
    """``{"result"}`` with ``body`` as structured content, and as text for clients that read only that."""
    return {"result": {"content": [{"type": "text", "text": _text(body)}], "structuredContent": body}}


def failed(error: HarbourError) -> dict[str, Any]:
    """A tool error, so that a model reads why and what to do."""
    message = IN_USE.redact(error.message)
    body: dict[str, Any] = {"error": {"code": error.code, "message": message, "remedy": error.remedy}}
    more: dict[str, Any] = {key: error.details[key] for key in _TOLD if key in error.details}
    texts = [f"{message} [{error.code}]" + (f"\nWhat to do: {error.remedy}" if error.remedy else "")]
    texts += [_text(more)] if more else []
    content = [{"type": "text", "text": text} for text in texts]
    return {"content": content, "structuredContent": body | more, "isError": True}


def _text(body: dict[str, Any]) -> str:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))
