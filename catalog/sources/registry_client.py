"""Reads the official MCP registry's API v0.1 page by page: cursor, ``updated_since``, retries with backoff.

Source: docs/reference/api/openapi.yaml of github.com/modelcontextprotocol/registry (2025-12-01).  The address comes from the person
who adds the source; what the registry answers comes from a stranger: redirects are not followed, sizes are bounded.
"""

from __future__ import annotations

import email.utils
import ipaddress
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import httpx2

from catalog.errors import EntryUnreadable, SourceCursorInvalid, SourceUnavailable, SourceUnreadable
from catalog.records import EntryRecord, UnreadRecord
from catalog.sources.rawjson import Raw, items, members, parse
from catalog.sources.serverjson import read_item
from catalog.text import one_line

PAGE = 100  # the official registry's maximum
MAX_PAGE_BYTES = 32 << 20
MAX_PAGES = 10_000
TIMEOUT_S = 30.0
ATTEMPTS = 5
FIRST_WAIT_S, MAX_WAIT_S = 1.0, 60.0
_AGAIN = (408, 425, 429, 500, 502, 503, 504)

Offer = EntryRecord | UnreadRecord


@dataclass(frozen=True)
class Page:
    offers: list[Offer]
    next_cursor: str
    newest: str
    """The latest ``updatedAt`` on the page; empty when none says."""


@dataclass(frozen=True)
class Backoff:
    """How long to wait before attempt ``n`` (from 1): doubling, with jitter, never beyond a minute."""

    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = field(default=random.random)

    def wait(self, attempt: int, asked: float | None) -> None:
        doubled = min(FIRST_WAIT_S * 2 ** (attempt - 1), MAX_WAIT_S)
        self.sleep(min(asked, MAX_WAIT_S) if asked is not None else doubled * (0.5 + self.jitter() / 2))


class RegistryClient:
    """
    >>> with RegistryClient("https://registry.modelcontextprotocol.io") as client:
    ...     page = client.page(cursor="", updated_since="2026-11-01T00:00:00Z")
    """

    def __init__(self, address: str, *, backoff: Backoff | None = None) -> None:
        self._base = checked_address(address)
        self._backoff = backoff or Backoff()
        self._http = httpx2.Client(timeout=TIMEOUT_S, follow_redirects=False, headers={"Accept": "application/json"})

    def __enter__(self) -> RegistryClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._http.close()

    def page(self, *, cursor: str = "", updated_since: str = "") -> Page:
        """One page, deleted servers included; raises ``SourceUnavailable``, ``SourceUnreadable`` or ``SourceCursorInvalid``."""
        query = {"limit": str(PAGE), "include_deleted": "true"}
        query |= {k: v for k, v in (("cursor", cursor), ("updated_since", updated_since)) if v}
        return _page(self._get("/v0.1/servers", query, bool(cursor)))

    def _get(self, path: str, query: dict[str, str], has_cursor: bool) -> bytes:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                status, headers, body = self._once(path, query)
            except httpx2.HTTPError as e:
                problem, asked = f"{type(e).__name__}: {e}", None
            else:
                if status == 200:
                    return body
                if status not in _AGAIN:
                    raise _refused(status, body, has_cursor)
                problem, asked = f"answers {status}", retry_after(headers.get("retry-after"), time.time())
            if attempt < ATTEMPTS:
                self._backoff.wait(attempt, asked)
        raise SourceUnavailable(f"{self._base} {problem} ({ATTEMPTS} attempts)", remedy="try again later")

    def _once(self, path: str, query: dict[str, str]) -> tuple[int, Any, bytes]:
        with self._http.stream("GET", self._base + path, params=query) as response:
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MAX_PAGE_BYTES:
                    raise SourceUnreadable(
                        f"a page is larger than {MAX_PAGE_BYTES} bytes", remedy="ask the registry's operator"
                    )
            return response.status_code, response.headers, bytes(body)


def checked_address(address: str) -> str:
    """``address`` without a slash at its end; https, or http on this machine."""
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
    except ValueError:
        host, parts = "", urlsplit("")
    if not host or parts.username or parts.query or parts.fragment:
        raise SourceUnreadable(f"{one_line(address, 200)} is no registry's address", remedy="write https://host")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise SourceUnreadable(f"{address} is not https", remedy="write https://host")
    return address.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds from a ``Retry-After`` header (RFC 9110, 10.2.3): a number or a date."""
    if not value:
        return None
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now)
    except (TypeError, ValueError):
        return None


def _refused(status: int, body: bytes, has_cursor: bool) -> SourceCursorInvalid | SourceUnreadable:
    try:
        said = one_line(members(parse(body)).get("error", Raw("", "")).value, 200)
    except EntryUnreadable:
        said = ""
    message = f"the registry answers {status}" + (f": {said}" if said else "")
    if has_cursor and status in (400, 404, 410, 422):
        return SourceCursorInvalid(message, remedy="it is read again from the start")
    return SourceUnreadable(message, remedy="check the source's address")


def _page(body: bytes) -> Page:
    try:
        parts = members(parse(body))
    except EntryUnreadable as e:
        raise SourceUnreadable(f"a page is {e.message}", remedy="check the source's address") from e
    if "servers" not in parts or not isinstance(parts["servers"].value, list):
        raise SourceUnreadable("a page has no list of servers", remedy="check the source's address")
    offers = list(_offers(items(parts["servers"])))
    metadata = parts["metadata"].value if "metadata" in parts else None
    cursor = metadata.get("nextCursor") if isinstance(metadata, dict) else None
    newest = max((o.updated_at for o in offers if isinstance(o, EntryRecord)), default="")
    return Page(offers, cursor if isinstance(cursor, str) else "", newest)


def _offers(found: list[Raw]) -> Iterator[Offer]:
    for raw in found:
        try:
            yield read_item(raw)
        except EntryUnreadable as e:
            yield UnreadRecord(_shown_name(raw.value), e.code, e.message, e.remedy)


def _shown_name(value: Any) -> str:
    server = value.get("server") if isinstance(value, dict) else None
    return one_line(server.get("name") if isinstance(server, dict) else "", 120)
