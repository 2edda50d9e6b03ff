"""Recorded answers of hosts, so that a server can be learnt on a machine without internet.  Pure.

JSON, made to be read and written by hand too:
``{"version": 1, "http": [{"host", "port", "method", "target", "status", "headers": [[name, value]], "text" | "base64"}],
"raw": [{"host", "port", "steps": [{"from": "server" | "client", "text" | "base64"}]}]}``.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from sandbox.egress.rules import canonical_host
from sandbox.learn.errors import NotReplayed, RecordingInvalid

VERSION = 1
MAX_BODY = 8 * 1024 * 1024  # of one answer: a large web page with room to spare

Header = tuple[str, str]


@dataclass(frozen=True)
class Exchange:
    """One HTTP request and its answer; ``target`` as in the request line."""

    host: str
    port: int
    method: str
    target: str
    status: int
    headers: tuple[Header, ...]
    body: bytes


@dataclass(frozen=True)
class Raw:
    """A connection that is not HTTP: what each side said, in order; ``(of the server, bytes)``."""

    host: str
    port: int
    steps: tuple[tuple[bool, bytes], ...]


@dataclass(frozen=True)
class Recording:
    http: tuple[Exchange, ...] = ()
    raw: tuple[Raw, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> Recording:
        """Raises ``RecordingInvalid``."""
        try:
            body = json.loads(data)
            if body["version"] != VERSION:
                raise ValueError(f"version {body['version']!r}, expected {VERSION}")
            return cls(tuple(map(_exchange, body.get("http", ()))), tuple(map(_raw, body.get("raw", ()))))
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise RecordingInvalid(
                f"this is not a recording: {e}", remedy="make one with: hm sandbox learn SERVER --record FILE"
            ) from e

    def dump(self) -> bytes:
        http = [
            {k: getattr(e, k) for k in ("host", "port", "method", "target", "status")}
            | {"headers": [list(h) for h in e.headers]}
            | _written(e.body)
            for e in self.http
        ]
        raw = [
            {"host": r.host, "port": r.port, "steps": [_step(server, data) for server, data in r.steps]}
            for r in self.raw
        ]
        return json.dumps({"version": VERSION, "http": http, "raw": raw}, indent=1, ensure_ascii=False).encode() + b"\n"

    def answer(self, host: str, port: int, method: str, target: str) -> Exchange:
        """The recorded answer: of the same target, else of the same path, else the host's only one.  ``NotReplayed``."""
        ours = [e for e in self.http if (e.host, e.port, e.method) == (host, port, method)]
        path = target.partition("?")[0]
        same = [e for e in ours if e.target == target] or [e for e in ours if e.target.partition("?")[0] == path]
        if same:
            return same[0]
        raise NotReplayed(
            f"no answer is recorded for {method} {host}:{port}{path}", remedy="record one with --record, or write it"
        )

    def connection(self, host: str, port: int) -> Raw | None:
        return next((r for r in self.raw if (r.host, r.port) == (host, port)), None)


def _exchange(item: dict[str, Any]) -> Exchange:
    headers = tuple((str(k), str(v)) for k, v in item.get("headers", ()))
    target = str(item.get("target", "/"))
    method, status = str(item.get("method", "GET")), int(item.get("status", 200))
    return Exchange(canonical_host(item["host"]), int(item["port"]), method, target, status, headers, _read(item))


def _raw(item: dict[str, Any]) -> Raw:
    steps = tuple((_of_server(step["from"]), _read(step)) for step in item["steps"])
    return Raw(canonical_host(item["host"]), int(item["port"]), steps)


def _of_server(who: str) -> bool:
    if who not in ("server", "client"):
        raise ValueError(f"a step is from {who!r}, neither server nor client")
    return who == "server"


def _read(item: dict[str, Any]) -> bytes:
    body = base64.b64decode(item["base64"], validate=True) if "base64" in item else str(item.get("text", "")).encode()
    if len(body) > MAX_BODY:
        raise ValueError(f"an answer is larger than {MAX_BODY} bytes")
    return body


def _step(of_server: bool, data: bytes) -> dict[str, str]:
    return {"from": "server" if of_server else "client"} | _written(data)


def _written(data: bytes) -> dict[str, str]:
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}
