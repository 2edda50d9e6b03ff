"""The command line's own MCP client: one request at a time, to the running gateway or to one of its own.

It speaks the modern revision (2026-07-28): a request says all about itself, so a call is one POST, and the gateway keeps
this caller's sandboxes warm from one command to the next.  Standard library only, because every ``hm call`` pays for imports.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO, Any, Protocol

from gateway.cli_errors import GatewayLost, NotAGateway, TokenRefused, refused
from harbourmaster import __version__
from harbourmaster.core.errors import HarbourError

MODERN = "2026-07-28"
_META = {  # the request envelope: 2026-07-28, basic/index "Request metadata"
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "hm", "version": __version__},
    "io.modelcontextprotocol/clientCapabilities": {},
}
_LONGEST_ANSWER = 64 << 20  # bytes; an answer beyond this is not for a terminal
_GRACE_S = 20.0  # an own gateway ends its sandboxes within this, else it is killed and the reaper does

Notify = Callable[[str, dict[str, Any]], None]


class Gateway(Protocol):
    def request(self, method: str, params: dict[str, Any], *, headers: Mapping[str, str]) -> dict[str, Any]: ...
    def close(self) -> None: ...


def call_tool(gateway: Gateway, name: str, arguments: dict[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The result of ``tools/call``; raises what the gateway answered."""
    params = {"name": name, "arguments": arguments}
    result = gateway.request("tools/call", params, headers={"Mcp-Name": name, **_param_headers(schema, arguments)})
    if result.get("resultType") == "input_required":
        raise NotAGateway(
            "the tool asks back (elicitation), which the command line cannot answer",
            remedy="call it from a client that can",
        )
    return result


def running_gateway(
    host: str, port: int, token: str, timeout_s: float, notify: Notify, profile: str = ""
) -> Gateway | None:
    """The gateway that listens there, or None when nothing does.  ``profile``: empty is the one named default."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.connect()
    except OSError:
        return None
    return _Http(connection, token, notify, f"/mcp/{profile}" if profile else "/mcp")


class _Http:
    def __init__(self, connection: http.client.HTTPConnection, token: str, notify: Notify, path: str) -> None:
        self._path = path
        self._connection = connection
        self._where = f"{connection.host}:{connection.port}"
        self._token = token
        self._notify = notify

    def request(self, method: str, params: dict[str, Any], *, headers: Mapping[str, str]) -> dict[str, Any]:
        try:
            self._connection.request("POST", self._path, _message(method, params), {**self._headers(method), **headers})
            response = self._connection.getresponse()
            if response.status in (401, 403):
                raise TokenRefused(
                    f"the gateway on {self._where} does not know this token (HTTP {response.status})",
                    remedy="it may belong to another HM_HOME; see: hm status",
                )
            return _result(self._messages(response), self._notify, f"what listens on {self._where}")
        except (OSError, http.client.HTTPException) as e:
            raise GatewayLost(f"the gateway on {self._where} broke off: {e}", remedy="see: hm status") from e

    def close(self) -> None:
        self._connection.close()

    def _headers(self, method: str) -> dict[str, str]:
        return {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "Authorization": f"Bearer {self._token}",
            "MCP-Protocol-Version": MODERN,
            "Mcp-Method": method,
        }

    def _messages(self, response: http.client.HTTPResponse) -> Iterator[Any]:
        if response.headers.get_content_type() == "text/event-stream":
            yield from _events(response)
            return
        yield _parsed(response.read(_LONGEST_ANSWER), f"what listens on {self._where} (HTTP {response.status})")


class _Own:
    """``hm gateway run --transport stdio`` as a child; it and its sandboxes end with us."""

    def __init__(self, server: str, timeout_s: float, notify: Notify, options: list[str]) -> None:
        command = [sys.executable, "-m", "harbourmaster", "gateway", "run", "--transport", "stdio", "--servers", server]
        command += options
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, start_new_session=True
        )
        self._notify = notify
        self._timeout_s = timeout_s

    def request(self, method: str, params: dict[str, Any], *, headers: Mapping[str, str]) -> dict[str, Any]:
        stdin, stdout = _pipes(self._process)
        try:
            stdin.write(_message(method, params) + b"\n")
            stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        with _killed_after(self._process, self._timeout_s):
            lines = (_parsed(line, "its own gateway") for line in iter(stdout.readline, b""))
            try:
                return _result(lines, self._notify, "its own gateway")
            except GatewayLost:
                raise self._ended() from None

    def close(self) -> None:
        """Closing stdin ends the session; the gateway then ends its sandboxes."""
        with contextlib.suppress(BrokenPipeError):
            _pipes(self._process)[0].close()
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        finally:
            _pipes(self._process)[1].close()
            self._stderr.close()

    def _ended(self) -> HarbourError:
        self._process.wait(_GRACE_S)
        self._stderr.seek(0)
        said = self._stderr.read()[-2000:].decode("utf-8", "replace").strip()
        return GatewayLost(
            f"its own gateway ended with status {self._process.returncode}" + (f":\n{said}" if said else ""),
            remedy="hm doctor names what is missing; or start one: hm up --detach",
        )


def own_gateway(server: str, timeout_s: float, notify: Notify, profile: str = "") -> Gateway:
    """A gateway of this command alone that serves ``server``."""
    return _Own(server, timeout_s, notify, ["--profile", profile] if profile else [])


def _message(method: str, params: dict[str, Any]) -> bytes:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": {**_META, "progressToken": 1}}}
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _result(messages: Iterable[Any], notify: Notify, who: str) -> dict[str, Any]:
    """The answer to our one request; notifications before it go to ``notify``."""
    for message in messages:
        if not isinstance(message, dict):
            raise NotAGateway(f"{who} did not answer with JSON-RPC", remedy="see: hm status")
        if "method" in message and "id" not in message:
            notify(str(message["method"]), message.get("params") or {})
        elif "error" in message:
            raise refused(message["error"])
        elif message.get("id") == 1 and isinstance(message.get("result"), dict):
            result: dict[str, Any] = message["result"]
            return result
        elif "method" not in message:
            raise NotAGateway(f"{who} is no MCP gateway", remedy="see: hm status")
    raise GatewayLost(f"{who} ended without an answer", remedy="see: hm status")


def _events(response: IO[bytes] | http.client.HTTPResponse) -> Iterator[Any]:
    """The JSON of each server-sent event (HTML standard, 9.2.6): its data lines joined."""
    data: list[bytes] = []
    for line in iter(response.readline, b""):
        text = line.rstrip(b"\r\n")
        if text.startswith(b"data:"):
            data.append(text[5:].removeprefix(b" "))
        elif not text and data:
            yield _parsed(b"\n".join(data), "the gateway's stream")
            data = []


def _parsed(raw: bytes, who: str) -> Any:
    try:
        return json.loads(raw)
    except ValueError as e:
        raise NotAGateway(f"{who} did not answer with JSON: {raw[:80]!r}", remedy="see: hm status") from e


def _param_headers(schema: Mapping[str, Any], arguments: dict[str, Any]) -> dict[str, str]:
    """``Mcp-Param-*`` for arguments that the tool wants in headers too; rare, so the SDK is loaded only then."""
    if '"x-mcp-header"' not in json.dumps(schema):
        return {}
    from mcp.shared.inbound import mcp_param_headers, x_mcp_header_map

    return mcp_param_headers(x_mcp_header_map(schema), arguments)


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    if process.stdin is None or process.stdout is None:
        raise GatewayLost("its own gateway has no pipes")
    return process.stdin, process.stdout


@contextlib.contextmanager
def _killed_after(process: subprocess.Popen[bytes], seconds: float) -> Iterator[None]:
    """Kill ``process`` if the block takes longer, which ends its output and so the block."""
    import threading

    timer = threading.Timer(seconds, process.kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
