"""Pictures in messages: read from a request, and taken out of the messages before a template sees them.

In a message a picture is a part of OpenAI's shape whose address is a ``data:`` URL.  Nothing is ever fetched: an address in a
request would let whoever asks reach what the runner reaches.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from typing import Any

from runner.errors import RequestInvalid, RequestTooLarge, Unsupported

MAX_PICTURES = 16  # in one request
MAX_BYTES = 8 << 20  # of one file; a whole body may have 10 MiB
MAX_ALL = 32 << 20  # characters of all: a conversation that the runner keeps grows by a body with every request
_DATA_URL = re.compile(r"data:image/[a-z0-9.+-]{1,32};base64,", re.IGNORECASE)
# A mark is made of private-use characters that nobody can guess, so no text can stand for a picture.
_OPEN, _CLOSE, _DIGIT = "\ue0f2", "\ue0f3", 0xE100


def picture_part(encoded: Any, kind: str = "image/*") -> dict[str, Any]:
    """The part for a file in base64 (Ollama's and Anthropic's way); raises ``RequestInvalid``."""
    if not isinstance(encoded, str):
        raise _wrong("should be a file in base64")
    return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{encoded}"}}


def read_part(part: dict[str, Any]) -> dict[str, Any]:
    """An ``image_url`` (chat completions) or ``input_image`` (responses) part, checked; raises ``RequestInvalid``."""
    url = part.get("image_url")
    url = url.get("url") if isinstance(url, dict) else url
    if not isinstance(url, str):
        raise Unsupported("a picture has no image_url", remedy="send a data: URL", param="messages")
    if not url.lower().startswith("data:"):
        raise Unsupported(
            f"this runner fetches no pictures from addresses ({url[:40]!r})",
            remedy="send the file itself: data:image/png;base64,...",
            param="messages",
        )
    head, comma, encoded = url.partition(",")
    if not (_DATA_URL.fullmatch(f"{head}{comma}") or head == "data:image/*;base64"):
        raise _wrong("should be data:image/TYPE;base64,...")
    _check(encoded)
    return {"type": "image_url", "image_url": {"url": url}}


def _check(encoded: str) -> None:
    try:
        size = len(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError):
        raise _wrong("is not base64") from None
    if not 0 < size <= MAX_BYTES:
        raise _wrong(f"has {size} bytes; 1 to {MAX_BYTES} are taken")


def check_count(messages: list[dict[str, Any]]) -> None:
    urls = [p["image_url"]["url"] for m in messages for p in _parts(m) if p["type"] == "image_url"]
    if len(urls) > MAX_PICTURES:
        raise RequestInvalid(f"{len(urls)} pictures in one request; at most {MAX_PICTURES} are taken", param="messages")
    if sum(map(len, urls)) > MAX_ALL:
        raise RequestTooLarge(f"the pictures of this conversation have over {MAX_ALL} characters", remedy="send fewer")


def lift(messages: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """``messages`` with texts only, a mark where each picture stood; and ``{"mark", "data"}`` of each, ``data`` in base64."""
    pictures: list[dict[str, str]] = []
    return [{**m, "content": _marked(_parts(m), pictures)} if _parts(m) else m for m in messages], pictures


def _parts(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    return content if isinstance(content, list) else []


def _marked(parts: list[dict[str, Any]], pictures: list[dict[str, str]]) -> str:
    texts = []
    for part in parts:
        if part["type"] == "image_url":
            mark = _mark()
            pictures.append({"mark": mark, "data": part["image_url"]["url"].partition(",")[2]})
            texts.append(mark)
        else:
            texts.append(part["text"])
    return "\n".join(texts)


def _mark() -> str:
    return _OPEN + "".join(chr(_DIGIT + int(digit, 16)) for digit in secrets.token_hex(8)) + _CLOSE


def _wrong(why: str) -> RequestInvalid:
    return RequestInvalid(f"a picture {why}", remedy="send PNG, JPEG, WebP, GIF or BMP", param="messages")
