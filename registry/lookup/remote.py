"""A server that runs elsewhere: does it answer MCP, and does it want a person to sign in?"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import requests

from registry import addresses
from registry.lookup.errors import LookupUnavailable, LookupUnusable
from registry.lookup.found import Found, clean, slug, title_of
from registry.session import CLIENT_INFO, PROTOCOL_VERSION

TIMEOUT_S = (10, 20)  # connect; silence while reading
MAX_ANSWER = 1 << 20


def look_up(url: str, *, transport: str = "streamable-http", private: bool = False) -> Found:
    """Ask it to initialize, without credentials.  ``private``: it may be on this machine or a private network.

    Raises ``LookupUnavailable``, ``LookupUnusable``.
    """
    remote: dict[str, Any] = {"url": url, "transport": transport}
    if reason := addresses.refusal(url):
        if not private:
            raise LookupUnusable(f"{url[:200]} {reason}", remedy="write a public https address, or say --private")
        remote["private"] = [_endpoint(url)]
    status, info = _initialize(url) if transport == "streamable-http" else _listen(url)
    host = urlsplit(url).hostname or ""
    labels = [word for word in host.split(".")[:-1] if word not in ("www", "api", "mcp")]
    name = slug(str(info.get("name") or (labels[-1] if labels else host)))
    notes = []
    if status in (401, 403):
        remote["oauth"] = {}
        notes.append("it wants a person to sign in: remove remote.oauth if it takes a token in a header instead")
    elif status != 200:
        notes.append(f"it answered {status} to the first message: check address and transport")
    return Found(
        name=name,
        title=clean(info.get("title"), 60) or title_of(name),
        description=clean(info.get("description"), 1000),
        homepage=url,
        remote=remote,
        notes=tuple(notes),
    )


def _endpoint(url: str) -> str:
    try:
        parts = urlsplit(url)
        return f"{parts.hostname}:{parts.port or {'https': 443, 'http': 80}[parts.scheme]}"
    except (ValueError, KeyError) as e:
        raise LookupUnusable(f"{url[:200]!r} is no web address", remedy="write https://host/path") from e


def _initialize(url: str) -> tuple[int, dict[str, Any]]:
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": PROTOCOL_VERSION, "capabilities": {}, "clientInfo": CLIENT_INFO},
    }
    status, raw = _ask("POST", url, "application/json, text/event-stream", json=body)
    return status, _server_info(raw)


def _listen(url: str) -> tuple[int, dict[str, Any]]:
    return _ask("GET", url, "text/event-stream")[0], {}


def _ask(method: str, url: str, accept: str, **more: Any) -> tuple[int, bytes]:
    try:
        with requests.request(
            method, url, headers={"Accept": accept}, timeout=TIMEOUT_S, allow_redirects=False, stream=True, **more
        ) as answer:
            raw = next(answer.iter_content(MAX_ANSWER), b"") if answer.ok and method == "POST" else b""
            return answer.status_code, raw
    except requests.RequestException as e:
        raise LookupUnavailable(f"{url} does not answer: {e}", remedy="check the address and the network") from e


def _server_info(raw: bytes) -> dict[str, Any]:
    """From a JSON answer, or the first event of a stream."""
    lines = [line[5:] for line in raw.splitlines() if line.startswith(b"data:")] or [raw]
    try:
        info = json.loads(lines[0])["result"]["serverInfo"]
    except (ValueError, KeyError, TypeError):
        return {}
    return info if isinstance(info, dict) else {}
