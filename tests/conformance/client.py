"""The gateway's upstream side as the client that the suite judges: ``python -m tests.conformance.client URL``.

The suite's mock server is locked and served as a remote server, by the gateway's own code from the listing to the login;
what stands in for a person's browser follows the authorization server's redirect.  The scenario's name and revision come
in the environment, as the suite sets it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway.edges.stdio import StdioEdge
from gateway.gateway import Gateway
from gateway.lock import LockedServer, pin_of
from gateway.remote.errors import LoginRequired, ScopeRequired
from gateway.remote.listing import listing_of
from gateway.remote.net import Web
from gateway.remote.oauth.grant import Vault
from gateway.remote.oauth.keeper import Keeper
from gateway.remote.oauth.login import log_in
from gateway.remote.oauth.redirect import Answer, parameters
from gateway.remote.spec import OAuthSpec, RemoteSpec
from gateway.remote.start import Remotes, either
from gateway.tokens import TokenStore
from harbourmaster.core.secrets import Delivery, SecretId, SecretStore
from harbourmaster.core.settings import Settings
from tests.gateway.harness import Admitted, enveloped

NAME = "suite"
LOGINS = 3  # a person would not agree more often
CLIENT_METADATA = "https://conformance-test.local/client-metadata.json"  # what the suite's CIMD scenario expects
CAPABILITIES = {"sampling": {}, "elicitation": {"form": {}, "url": {}}, "roots": {}}


def loopback(host: str, port: int) -> bool:
    """The suite's servers are on loopback, on ports of their own choice."""
    return host in ("localhost", "127.0.0.1")


class Browser:
    """A person who agrees at once."""

    uri = "http://127.0.0.1:7/callback"

    def __init__(self, web: Web) -> None:
        self._web = web

    async def answer(self, url: str, state: str) -> Answer:
        async with self._web.request("GET", url, [], read_s=10) as response:
            assert response.status in (302, 303), f"the authorization server answered {response.status}"
            return parameters(urlsplit(response.header(b"location")).query)


class Suite:
    """One scenario's server, behind a gateway."""

    def __init__(self, url: str, settings: Settings, context: dict[str, Any], revision: str) -> None:
        oauth = OAuthSpec(context.get("client_id", ""), CLIENT_METADATA)
        self.spec = RemoteSpec(url, private=frozenset({f"localhost:{urlsplit(url).port}"}), oauth=oauth)
        self.revision = revision
        self.modern = revision == "2026-07-28"
        self._settings = settings
        self._logins = 0
        self.vault = Vault(lambda: SecretStore.of(settings), NAME)
        self.web = Web(loopback)
        self.remotes = Remotes(lambda server: Delivery(), self._keeper, lambda record: None, may_be_private=loopback)
        if "client_secret" in context:
            SecretStore.of(settings).put(SecretId(NAME, "oauth-client-secret"), context["client_secret"])

    def _keeper(self, name: str, spec: RemoteSpec, web: Web) -> Keeper:
        return Keeper(name, spec.url, web, self.vault, self._settings.run_dir / "oauth.guard")

    def locked(self, listing: dict[str, Any]) -> LockedServer:
        run = {"remote": self.spec.as_dict()}
        return LockedServer(NAME, "remote", "1", "", "", "", "", "", pin_of(listing), True, listing, run)

    async def listed(self) -> LockedServer:
        async def start(version: str, on_line: Any, on_exit: Any) -> Any:
            return await self.remotes.start(self.locked({"protocolVersion": version}), on_line, on_exit)

        return self.locked(await self.logging_in(lambda: listing_of(NAME, start, 20, modern=self.modern)))

    async def logging_in(self, work: Callable[[], Awaitable[Any]]) -> Any:
        while True:
            try:
                return await work()
            except (LoginRequired, ScopeRequired) as e:
                await self.log_in(e.challenge)

    async def log_in(self, challenge: str, scopes: tuple[str, ...] = ()) -> None:
        self._logins += 1
        if self._logins > LOGINS:
            raise SystemExit("it wants one login after another")
        await log_in(self.spec, self.web, self.vault, Browser(self.web), challenge=challenge, scopes=scopes)


class Client:
    """A client on the gateway's stdio edge, of the scenario's era."""

    def __init__(self, gateway: Gateway, suite: Suite) -> None:
        self._suite = suite
        self._edge = StdioEdge(gateway, self._hear)
        self._next = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def begin(self) -> None:
        if not self._suite.modern:
            hello = {"protocolVersion": self._suite.revision, "capabilities": CAPABILITIES}
            await self.ask("initialize", {**hello, "clientInfo": {"name": "conformance", "version": "1"}})
            self._say({"jsonrpc": "2.0", "method": "notifications/initialized"})

    async def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """The response; input is given and logins are made on the way."""
        while True:
            body = await self._request(method, params)
            result = body.get("result") or {}
            data = (body.get("error") or {}).get("data") or {}
            if result.get("resultType") == "input_required":
                asked = result.get("inputRequests") or {}
                params = {**params, "inputResponses": {k: reply_to(q) for k, q in asked.items()}}
                params.pop("requestState", None)
                if "requestState" in result:
                    params["requestState"] = result["requestState"]
            elif isinstance(data, dict) and data.get("code") in ("remote.login_required", "remote.scope_required"):
                await self._suite.log_in("", tuple(re.findall(r"--scope (\S+)", data.get("remedy", ""))))
            else:
                return body

    async def end(self) -> None:
        await self._edge.finish(patient=True)

    async def _request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._next += 1
        waiting = self._waiting[self._next] = asyncio.get_running_loop().create_future()
        sent = enveloped(params, CAPABILITIES) if self._suite.modern else params
        self._say({"jsonrpc": "2.0", "id": self._next, "method": method, "params": sent})
        return await waiting

    def _say(self, body: dict[str, Any]) -> None:
        self._edge.line(json.dumps(body).encode())

    def _hear(self, line: bytes) -> None:
        body = json.loads(line)
        if "method" not in body:
            self._waiting.pop(body["id"]).set_result(body)
        elif "id" in body:
            answer = {"jsonrpc": "2.0", "id": body["id"], "result": reply_to(body)}
            asyncio.get_running_loop().call_soon(self._say, answer)


def reply_to(question: dict[str, Any]) -> dict[str, Any]:
    """What a person who agrees with every default would say."""
    if question["method"] == "elicitation/create":
        schema = question["params"].get("requestedSchema") or {}
        return {
            "action": "accept",
            "content": {k: v["default"] for k, v in schema.get("properties", {}).items() if "default" in v},
        }
    if question["method"] == "sampling/createMessage":
        return {"role": "assistant", "content": {"type": "text", "text": "yes"}, "model": "none"}
    return {"roots": []}


def arguments_for(tool: dict[str, Any], tools: list[dict[str, Any]]) -> dict[str, Any]:
    """Something of the right type for all that is required."""
    values = {"string": "us-west1", "integer": 5, "number": 3, "boolean": True, "array": []}
    schema = tool.get("inputSchema") or {}
    found = {}
    for name in schema.get("required") or ():
        kind = (schema.get("properties") or {}).get(name, {}).get("type")
        if name == "schema":  # the suite wants to see the other tool's schema, as it arrived here
            found[name] = next(t["inputSchema"] for t in tools if t is not tool)
        else:
            found[name] = values.get(kind, {})
    return found


async def play(client: Client, context: dict[str, Any]) -> None:
    """Use all that is offered."""
    await client.begin()
    tools = (await client.ask("tools/list", {})).get("result", {}).get("tools", [])
    calls = context.get("toolCalls") or [{"name": t["name"], "arguments": arguments_for(t, tools)} for t in tools]
    for call in calls:
        # The suite leaves it open to send null or nothing; null would break the tool's own schema, and the gateway says so
        arguments = {k: v for k, v in call["arguments"].items() if v is not None}
        await client.ask("tools/call", {"name": call["name"], "arguments": arguments})
    for prompt in (await client.ask("prompts/list", {})).get("result", {}).get("prompts", []):
        await client.ask("prompts/get", {"name": prompt["name"]})
    for resource in (await client.ask("resources/list", {})).get("result", {}).get("resources", []):
        await client.ask("resources/read", {"uri": resource["uri"]})


async def run(url: str, home: Path) -> None:
    settings = Settings.load(home=home, secrets_backend="age")
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    suite = Suite(url, settings, context, os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION", "2025-11-25"))
    servers = {NAME: await suite.listed()}
    gateway = Gateway(
        settings,
        servers,
        admit=lambda name: Admitted("", ""),
        start=either(no_sandbox, suite.remotes),
        append=lambda record: None,
        tokens=TokenStore(settings.tokens_file),
    )
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(suite.web.close)
        stack.push_async_callback(suite.remotes.close)
        await stack.enter_async_context(gateway)
        client = Client(gateway, suite)
        stack.push_async_callback(client.end)
        await play(client, context)


async def no_sandbox(*_: Any) -> Any:
    raise AssertionError("nothing here runs in a sandbox")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(sys.argv[-1], Path(folder)))
