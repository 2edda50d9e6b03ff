"""What a tool returned, for a person: text as text, the rest as one line each.  Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def text_of(result: Mapping[str, Any]) -> str:
    """The content of a ``tools/call`` result; structured content where there is no text."""
    items = result.get("content")
    parts = [_item(i) for i in items if isinstance(i, dict)] if isinstance(items, list) else []
    structured = result.get("structuredContent")
    if structured is not None and not any(i.get("type") == "text" for i in items or [] if isinstance(i, dict)):
        parts.append(json.dumps(structured, indent=2, ensure_ascii=False))
    return "\n".join(parts)


def _item(item: Mapping[str, Any]) -> str:
    kind = item.get("type")
    if kind == "text":
        return str(item.get("text", ""))
    if kind in ("image", "audio"):
        return f"[{kind} {item.get('mimeType', '?')}, {_size(item.get('data'))}]"
    if kind == "resource_link":
        return f"[resource {item.get('uri', '?')}{_named(item)}]"
    if kind == "resource":
        return _resource(item.get("resource"))
    return f"[{kind or 'item'} that this version cannot show; --json shows it]"


def _resource(resource: Any) -> str:
    if not isinstance(resource, dict):
        return "[resource]"
    if isinstance(resource.get("text"), str):
        return str(resource["text"])
    return f"[resource {resource.get('uri', '?')} {resource.get('mimeType', '?')}, {_size(resource.get('blob'))}]"


def _named(item: Mapping[str, Any]) -> str:
    name = item.get("title") or item.get("name")
    return f" {name}" if name else ""


def _size(base64_text: Any) -> str:
    """The decoded size of base64 text: three bytes for four characters, less the padding."""
    if not isinstance(base64_text, str):
        return "? bytes"
    count = len(base64_text) * 3 // 4 - base64_text[-2:].count("=")
    return f"{count} bytes" if count < 1000 else f"{count / 1000:.1f} kB"
