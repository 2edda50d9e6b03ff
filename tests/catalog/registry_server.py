"""A small MCP registry that speaks HTTP: pages, cursors, failures and odd bytes, as a test asks for them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

Answer = tuple[int, dict[str, str], bytes]
Query = dict[str, str]


class RegistryServer:
    """Serves ``/v0.1/servers`` from ``answer``; ``asked`` keeps every query."""

    def __init__(self, answer: Callable[[Query], Answer]) -> None:
        self.answer = answer
        self.asked: list[Query] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = {k: v[0] for k, v in parse_qs(parts.query).items()}
                outer.asked.append(query)
                found = (
                    outer.answer(query) if parts.path == "/v0.1/servers" else (404, {}, b'{"error": "no such path"}')
                )
                status, headers, body = found
                self.send_response(status)
                for name, value in {
                    "Content-Type": "application/json",
                    "Content-Length": str(len(body)),
                    **headers,
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> RegistryServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def page(*items: str, cursor: str = "") -> Answer:
    """A page whose items are given as text, so that tests decide every byte."""
    metadata = f'{{"nextCursor": "{cursor}", "count": {len(items)}}}' if cursor else f'{{"count": {len(items)}}}'
    return 200, {}, f'{{"servers": [{", ".join(items)}], "metadata": {metadata}}}'.encode()


def item(
    name: str = "com.example/one",
    version: str = "1.0.0",
    *,
    status: str = "active",
    latest: bool = True,
    updated: str = "2026-01-01T00:00:00Z",
    server: str = "",
    more: str = "",
) -> str:
    body = server or (
        f'{{"name": "{name}", "description": "Does a thing", "version": "{version}", '
        f'"remotes": [{{"type": "streamable-http", "url": "https://mcp.example.com/mcp"}}]{more}}}'
    )
    official = (
        f'{{"status": "{status}", "publishedAt": "2026-01-01T00:00:00Z", "updatedAt": "{updated}", '
        f'"isLatest": {"true" if latest else "false"}}}'
    )
    return f'{{"server": {body}, "_meta": {{"io.modelcontextprotocol.registry/official": {official}}}}}'
