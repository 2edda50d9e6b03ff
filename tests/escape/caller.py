"""A plain MCP client of the gateway over HTTP: one session, one sandbox per server."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from tests.escape.captive import parsed

PATIENCE_S = 30  # only a broken test waits this long
INITIALIZE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "escape", "version": "1"}}


class Caller:
    """Usage: ``with Caller(url, token) as caller: caller.attempt("tcp", targets="1.1.1.1|80")``."""

    def __init__(self, url: str, token: str) -> None:
        address = urlsplit(url)
        self._connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=PATIENCE_S)
        self._headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
        }

    def __enter__(self) -> Caller:
        self._post({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": INITIALIZE})
        return self

    def __exit__(self, *exc: object) -> None:
        # A connection anew: other tests may have run for longer than the gateway keeps an idle one open.
        self._connection.close()
        self._connection.request("DELETE", "/mcp", headers=self._headers)
        self._connection.getresponse().read()
        self._connection.close()

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The whole JSON-RPC response."""
        params = {"name": tool, "arguments": arguments}
        return self._post({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})

    def attempt(self, tool: str, **arguments: Any) -> dict[str, str]:
        """What the hostile server reports: what it tried, and what stopped it."""
        reply = self.call(tool, **arguments)
        assert "result" in reply, reply
        return parsed(reply["result"]["content"][0]["text"])

    def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        self._connection.request("POST", "/mcp", json.dumps(body), self._headers)
        response = self._connection.getresponse()
        text = response.read().decode()
        assert response.status == 200, (response.status, text)
        if session := response.headers.get("Mcp-Session-Id"):
            self._headers["Mcp-Session-Id"] = session
        if "event-stream" in (response.headers.get("Content-Type") or ""):
            text = [line[6:] for line in text.splitlines() if line.startswith("data: ")][-1]
        reply: dict[str, Any] = json.loads(text)
        return reply
