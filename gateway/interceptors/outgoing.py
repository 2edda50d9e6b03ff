"""What a server says unasked, on its way to the client: log messages, progress, changes, and its own questions.

Notifications lose every credential; questions only the values that this gateway gave out, because a form's address or a
model's prompt may have to carry what looks like one (a signed link, the client's own token).
"""

from __future__ import annotations

from typing import Any, Final

from gateway.interceptors.secrets import IN_USE_NAME, SecretScan, redacted
from gateway.messages import encode
from harbourmaster.core.redaction import IN_USE

_SCAN: Final = SecretScan(IN_USE)


def notice(body: dict[str, Any]) -> bytes:
    raw = encode(body)
    found = _SCAN.find(raw)
    return redacted(raw, found) if found else raw


def question(body: dict[str, Any]) -> bytes:
    raw = encode(body)
    found = [each for each in _SCAN.find(raw) if each.kind == IN_USE_NAME]
    return redacted(raw, found) if found else raw
