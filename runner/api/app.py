"""The application: routes of every dialect, and who may ask.

Browsers are kept out unless their origin is allowed: a page must not use the models of whoever looks at it, neither by a
cross-origin request nor by a host name that it points at loopback.
"""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
from collections.abc import AsyncIterator, Sequence
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from harbourmaster.core.errors import HarbourError
from harbourmaster.core.loopback import SANDBOX_SOURCE
from runner.api.anthropic import Anthropic
from runner.api.docker import BACKEND, Docker
from runner.api.errors import response_for
from runner.api.http import SEND
from runner.api.ollama import Ollama
from runner.api.openai import OpenAI
from runner.api.rerank import Rerank
from runner.api.responses.endpoint import Responses
from runner.api.responses.servers import ToolServers
from runner.errors import EngineFailed, HostRefused, ResponseNotFound, SandboxRefused, TokenRefused
from runner.service import Runner

log = logging.getLogger(__name__)

LOOPBACK = ("localhost", "127.0.0.1", "::1")
SANDBOX_HOST = "model-runner.docker.internal"  # how containers name the runner, where an egress rule lets them
COMPUTES = re.compile(  # what a sandbox may ask: no store, no settings, no logs, no answers or tool servers of others
    r"(/anthropic)?(/engines(/[^/]+)?)?(/v1)?"
    r"/(chat/completions|completions|embeddings|rerank|reranking|messages|messages/count_tokens)"
    r"|/api/(chat|generate|embed|show|tags|version)|(/engines(/[^/]+)?)?/v1/models(/.+)?"
)
V1_PREFIXES = ("/v1", "/engines/v1", "/engines/{engine}/v1")


def create_app(
    runner: Runner,
    *,
    allowed_hosts: Sequence[str] = (),
    allowed_origins: Sequence[str] = (),
    token: str = "",
    tool_servers: ToolServers | None = None,
) -> ASGIApp:
    """``token``: what every request must carry; empty: none is needed (loopback only).

    ``tool_servers``: the MCP servers that responses may use; none: no MCP server at all.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await runner.scheduler.close()

    app = FastAPI(
        title="Harbourmaster model runner", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan
    )
    app.state.runner = runner
    _add_openai(app, OpenAI(runner))
    _add_rerank(app, Rerank(runner))
    _add_responses(app, Responses(runner, tool_servers or ToolServers()))
    _add_anthropic(app, Anthropic(runner))
    _add_ollama(app, Ollama(runner))
    _add_docker(app, Docker(runner))
    app.add_exception_handler(HarbourError, _on_error)
    app.add_exception_handler(404, _on_unknown)
    app.add_exception_handler(405, _on_unknown)
    app.add_exception_handler(Exception, _on_fault)
    return Gate(app, [*LOOPBACK, SANDBOX_HOST, *allowed_hosts], list(allowed_origins), token)


def _add_openai(app: FastAPI, api: OpenAI) -> None:
    for prefix in V1_PREFIXES:
        app.add_route(f"{prefix}/chat/completions", api.chat_completions, methods=["POST"])
        app.add_route(f"{prefix}/completions", api.completions, methods=["POST"])
        app.add_route(f"{prefix}/embeddings", api.embeddings, methods=["POST"])
        app.add_route(f"{prefix}/models", api.models, methods=["GET"])
        app.add_route(f"{prefix}/models/{{name:path}}", api.model, methods=["GET"])


def _add_rerank(app: FastAPI, api: Rerank) -> None:
    for prefix in (*V1_PREFIXES, "", "/engines", "/engines/{engine}"):
        for path in (f"{prefix}/rerank", f"{prefix}/reranking"):
            app.add_route(path, api.rerank, methods=["POST"])


def _add_responses(app: FastAPI, api: Responses) -> None:
    for prefix in (*V1_PREFIXES, ""):
        app.add_route(f"{prefix}/responses", api.create, methods=["POST"])
        app.add_route(f"{prefix}/responses/{{name}}", api.get, methods=["GET"])
        app.add_route(f"{prefix}/responses/{{name}}", api.delete, methods=["DELETE"])
        app.add_route(f"{prefix}/responses/{{name}}/input_items", api.inputs, methods=["GET"])


def _add_anthropic(app: FastAPI, api: Anthropic) -> None:
    for prefix in ("/anthropic/v1", *V1_PREFIXES):
        app.add_route(f"{prefix}/messages", api.messages, methods=["POST"])
        app.add_route(f"{prefix}/messages/count_tokens", api.count_tokens, methods=["POST"])


def _add_ollama(app: FastAPI, api: Ollama) -> None:
    app.add_route("/api/version", api.version, methods=["GET"])
    app.add_route("/api/tags", api.tags, methods=["GET"])
    app.add_route("/api/ps", api.ps, methods=["GET"])
    app.add_route("/api/show", api.show, methods=["POST"])
    app.add_route("/api/chat", api.chat, methods=["POST"])
    app.add_route("/api/generate", api.generate, methods=["POST"])
    app.add_route("/api/embed", api.embed, methods=["POST"])
    app.add_route("/api/pull", api.pull, methods=["POST"])
    app.add_route("/api/copy", api.copy, methods=["POST"])
    app.add_route("/api/delete", api.delete, methods=["DELETE"])


def _add_docker(app: FastAPI, api: Docker) -> None:
    app.add_route("/", api.root, methods=["GET"])
    app.add_route("/version", api.version, methods=["GET"])
    app.add_route("/logs", api.logs, methods=["GET"])
    app.add_route("/models", api.models, methods=["GET"])
    app.add_route("/models/create", api.create, methods=["POST"])
    app.add_route("/models/load", api.load, methods=["POST"])
    app.add_route("/models/{name:path}/export", api.export, methods=["GET"])
    app.add_route("/models/{name:path}/repackage", api.repackage, methods=["POST"])
    app.add_route("/models/{name:path}/tag", api.tag, methods=["POST"])
    app.add_route("/models/{name:path}/push", api.push, methods=["POST"])
    app.add_route("/models/{name:path}", api.model, methods=["GET"])
    app.add_route("/models/purge", api.purge, methods=["DELETE"])
    app.add_route("/models/{name:path}", api.delete, methods=["DELETE"])
    app.add_route("/engines/status", api.status, methods=["GET"])
    app.add_route("/engines/ps", api.ps, methods=["GET"])
    app.add_route("/engines/departures", api.departures, methods=["GET"])
    app.add_route("/engines/df", api.disk, methods=["GET"])
    app.add_route("/engines/unload", api.unload, methods=["POST"])
    for path in ("/engines/_configure", f"/engines/{BACKEND}/_configure"):
        app.add_route(path, api.configure, methods=["POST"])
        app.add_route(path, api.configurations, methods=["GET"])


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HarbourError)
    return response_for(error, request.url.path)


async def _on_unknown(request: Request, _error: Exception) -> Response:
    return response_for(
        ResponseNotFound(f"no {request.method} {request.url.path} here", remedy="see docs/models.md"), request.url.path
    )


async def _on_fault(request: Request, error: Exception) -> Response:
    log.error("a fault answering %s %s", request.method, request.url.path, exc_info=error)
    return response_for(EngineFailed(f"a fault of the runner: {type(error).__name__}"), request.url.path)


class Gate:
    """Host, Origin and token, before anything else runs."""

    def __init__(self, app: ASGIApp, hosts: list[str], origins: list[str], token: str = "") -> None:
        self._app, self._hosts, self._origins, self._token = app, {h.lower() for h in hosts}, set(origins), token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = {k: v.decode("latin-1") for k, v in scope["headers"] if k in _LOOKED_AT}
            refused = self._refusal(headers) or _beyond_computing(scope)
            if refused:
                await response_for(refused, scope["path"])(scope, receive, send)
                return
            scope[SEND] = send
        await self._app(scope, receive, send)

    def _refusal(self, headers: dict[bytes, str]) -> HarbourError | None:
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        if "*" not in self._hosts and _name(host) not in self._hosts:
            return HostRefused(f"the host {host!r} is not this runner's", remedy="call it by 127.0.0.1 or localhost")
        if origin is not None and origin not in self._origins and _name(origin) not in LOOPBACK:
            return HostRefused(f"pages of {origin} may not use the runner", remedy="add the origin to the settings")
        given = headers.get(b"authorization", "").removeprefix("Bearer ") or headers.get(b"x-api-key", "")
        if self._token and not secrets.compare_digest(given.encode(), self._token.encode()):
            return TokenRefused("no valid token came with the request", remedy="send Authorization: Bearer TOKEN")
        return None


def _beyond_computing(scope: Scope) -> HarbourError | None:
    """A sandbox is told from the machine's own programs by the address it comes from, which it cannot choose."""
    client = scope.get("client")
    if client is None or client[0] != SANDBOX_SOURCE or COMPUTES.fullmatch(scope["path"]):
        return None
    return SandboxRefused(
        f"a sandboxed server may use models, and not {scope['method']} {scope['path']}", remedy="see docs/models.md"
    )


_LOOKED_AT = (b"host", b"origin", b"authorization", b"x-api-key")


def _name(address: str) -> str:
    """The host name in ``host:port`` or ``scheme://host:port``; empty for what is neither."""
    try:
        return (urlsplit(address if "//" in address else f"//{address}").hostname or "").lower()
    except ValueError:
        return ""
