"""Docker Model Runner's management API (docker/model-runner, ``pkg/inference/models`` and ``pkg/inference/scheduling``)."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from harbourmaster import __version__
from harbourmaster.core.digests import CHUNK
from harbourmaster.core.errors import HarbourError
from registry.errors import SignatureMissing
from runner.api.http import Events, json_body, json_response
from runner.api.pulling import pulling
from runner.configuration import parse_keep_alive
from runner.errors import ModelInUse, QueueFull, RequestInvalid, Unsupported
from runner.service import Runner
from runner.store import archive, fetch, reference, transfer
from runner.store.package import repackage
from runner.store.store import Model, ModelStore

BACKEND = "llama.cpp"
FOLLOW_S = 0.25  # between two looks at the logs
UPLOADS = 2  # archives that come in at one time: each keeps a thread waiting for its sender


class Docker:
    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._uploads = 0

    async def root(self, _request: Request) -> Response:
        return PlainTextResponse("Harbourmaster's model runner is running\n")

    async def version(self, _request: Request) -> Response:
        return json_response({"version": __version__})

    # -- /models

    async def models(self, _request: Request) -> Response:
        return json_response([m.as_docker() for m in self._runner.store.all()])

    async def model(self, request: Request) -> Response:
        return json_response(self._runner.store.find(request.path_params["name"]).as_docker())

    async def create(self, request: Request) -> Response:
        """Pull: lines of progress, then one of success or error."""
        body = await json_body(request)
        name = body.get("from")
        if not isinstance(name, str):
            raise RequestInvalid("from should name a model", param="from")
        fetch.check_name(name)
        return Events(self._pull(name), _error_line, "application/json")

    async def _pull(self, name: str) -> AsyncGenerator[bytes, None]:
        async with aclosing(pulling(self._runner, name)) as steps:
            async for step in steps:
                if isinstance(step, Model):
                    yield _line("success", f"Model pulled: {step.id}")
                else:
                    digest, current, total = step
                    yield _line("progress", "", layer={"id": digest, "size": total, "current": current}, total=total)

    async def push(self, request: Request) -> Response:
        name = request.path_params["name"]
        self._runner.store.find(name)

        async def work() -> AsyncGenerator[bytes, None]:
            digest = await asyncio.to_thread(transfer.push, self._runner.store, name)
            yield _line("success", f"Model pushed: {digest}", mode="push")

        return Events(work(), _error_line, "application/json")

    async def export(self, request: Request) -> Response:
        stream = archive.export(self._runner.store, request.path_params["name"])
        return StreamingResponse(
            _chunks(stream), media_type="application/x-tar", headers={"Content-Length": str(len(stream))}
        )

    async def load(self, request: Request) -> Response:
        """Docker's tar as the body; ``?name=`` names the model."""
        if fetch.trust(self._runner.settings):
            raise SignatureMissing(
                "models here come signed from a registry: trust.yaml has rules for them", remedy="hm model pull NAME"
            )
        if self._uploads >= UPLOADS:
            raise QueueFull(f"{UPLOADS} models are being loaded from archives", remedy="wait until one is done")
        self._uploads += 1
        try:
            model = await _load(self._runner.store, request, request.query_params.get("name", ""))
        finally:
            self._uploads -= 1
        return Response(_line("success", f"Model loaded: {model.id}"), media_type="application/json")

    async def repackage(self, request: Request) -> Response:
        body = await json_body(request)
        target, size = body.get("target"), body.get("context_size")
        if not isinstance(target, str) or type(size) is not int:
            raise RequestInvalid("target should be a name and context_size a number of tokens", param="target")
        name = request.path_params["name"]
        repackage(self._runner.store, name, target, context_size=size)
        return json_response({"message": f"Model {name} repackaged as {target}", "source": name, "target": target}, 201)

    async def delete(self, request: Request) -> Response:
        name = request.path_params["name"]
        force = request.query_params.get("force") in ("1", "true")
        model = self._runner.store.find(name)
        last = len(model.tags) == 1 or bool(reference.looks_like_id(name))
        keys = [e["key"] for e in self._runner.scheduler.status() if e["key"].startswith(model.id)]
        if last and keys:
            busy = any(e["active"] for e in self._runner.scheduler.status() if e["key"] in keys)
            if busy and not force:
                raise ModelInUse(f"{model.name} answers requests now", remedy="wait, or use force")
            await self._runner.scheduler.unload(keys, force=True, why="removed")
        return json_response(self._runner.store.remove(name, force=force))

    async def purge(self, _request: Request) -> Response:
        """Every model that answers no request now."""
        await self._runner.scheduler.unload(why="removed")
        busy = {e["key"].partition("/")[0] for e in self._runner.scheduler.status() if e["active"]}
        if busy & {m.id for m in self._runner.store.all()}:
            raise ModelInUse("models answer requests now", remedy="wait, or remove the others one by one")
        done = [e for m in self._runner.store.all() for e in self._runner.store.remove(m.id, force=True)]
        return json_response(done)

    async def tag(self, request: Request) -> Response:
        repo, tag = request.query_params.get("repo", ""), request.query_params.get("tag", "")
        target = f"{repo}:{tag}" if tag else repo
        name = request.path_params["name"]
        self._runner.store.tag(name, target)
        return json_response({"message": f"Model {name} tagged as {target}", "target": target}, 201)

    # -- /engines

    async def status(self, _request: Request) -> Response:
        engines = self._runner.scheduler.engines()
        places = [f"{e.spec.name} computes on {e.ready['computes']}" for e in engines if e.ready.get("computes")]
        return json_response({BACKEND: "; ".join([f"Running: {BACKEND}, {len(engines)} models loaded", *places])})

    async def ps(self, _request: Request) -> Response:
        return json_response([self._runner_body(e) for e in self._runner.scheduler.status()])

    def _runner_body(self, entry: dict[str, Any]) -> dict[str, Any]:
        last = datetime.now(UTC).timestamp() - entry["idle_s"]
        return {
            "backend_name": entry["backend"],
            "model_name": entry["name"],
            "mode": "completion",
            "last_used": datetime.fromtimestamp(last, UTC).isoformat(),
            "in_use": entry["active"] > 0,
            "loading": entry["loading"],
            "keep_alive": "forever" if entry["keep_alive_s"] < 0 else f"{entry['keep_alive_s']:g}s",
            # Beyond Docker's: bytes that it takes, those of finished sequences among them, and how long it has been idle.
            "memory": entry["bytes"],
            "kept": entry["kept"],
            "requests": entry["active"],
            "idle_seconds": round(entry["idle_s"], 1),
            "pinned": entry["pinned"],
            "context": entry["context"],
        }

    async def departures(self, _request: Request) -> Response:
        """Why models left memory, newest last."""
        return json_response([vars(d) for d in self._runner.scheduler.departures])

    async def disk(self, _request: Request) -> Response:
        usage = self._runner.store.disk_usage()
        return json_response({"models_disk_usage": usage, "default_backend_disk_usage": 0})

    async def unload(self, request: Request) -> Response:
        body = await json_body(request)
        keys = None
        if not body.get("all"):
            ids = {self._runner.store.find(str(name)).id for name in body.get("models") or []}
            keys = [e["key"] for e in self._runner.scheduler.status() if e["key"].partition("/")[0] in ids]
        count = await self._runner.scheduler.unload(keys, why="asked to unload")
        return json_response({"unloaded_runners": count})

    async def configure(self, request: Request) -> Response:
        """Typed settings only: flags for the backend's command line are refused."""
        body = await json_body(request)
        if body.get("runtime-flags") or body.get("raw-runtime-flags"):
            raise Unsupported(
                "flags for the backend are not accepted from the network", remedy="use context-size and keep_alive"
            )
        model = self._runner.store.find(str(body.get("model", "")))
        changes: dict[str, Any] = {"context_size": body.get("context-size")}
        if body.get("keep_alive") is not None:
            changes["keep_alive_s"] = parse_keep_alive(body["keep_alive"])
        for name in ("parallel", "threads", "gpu_layers", "speculative_tokens", "pinned"):
            changes[name] = body.get(name)
        self._runner.configurations.change(model, changes)
        return Response(status_code=202)

    async def configurations(self, request: Request) -> Response:
        names = request.query_params.getlist("model") or [m.name for m in self._runner.store.all()]
        bodies = []
        for name in names:
            model = self._runner.store.find(name)
            config = vars(self._runner.configurations.get(model))
            bodies.append(
                {"Backend": BACKEND, "Model": model.name, "ModelID": model.id, "Mode": "completion", "Config": config}
            )
        return json_response(bodies)

    async def logs(self, request: Request) -> Response:
        follow = request.query_params.get("follow") in ("1", "true")
        return StreamingResponse(self._log_lines(follow=follow), media_type="text/plain; charset=utf-8")

    async def _log_lines(self, *, follow: bool) -> AsyncGenerator[bytes, None]:
        shown: dict[int, int] = {}  # process id -> lines that were sent
        while True:
            for engine in self._runner.scheduler.engines():
                new = min(engine.logged - shown.get(engine.pid, 0), len(engine.log))
                shown[engine.pid] = engine.logged
                lines = list(engine.log)[-new:] if new else []
                yield "".join(f"{engine.spec.name}: {line}\n" for line in lines).encode()
            if not follow:
                return
            await asyncio.sleep(FOLLOW_S)


def _chunks(stream: io.RawIOBase) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK):
        yield chunk


async def _load(store: ModelStore, request: Request, name: str) -> Model:
    """The body goes through a pipe to a thread: an archive may be larger than the memory."""
    reader, writer = os.pipe()

    def work() -> Model:
        with os.fdopen(reader, "rb") as source:
            return archive.load(store, source, name)

    loading = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        with contextlib.suppress(BrokenPipeError, ClientDisconnect):
            async for chunk in request.stream():
                await asyncio.to_thread(_write, writer, chunk)
    finally:
        os.close(writer)
    return await loading


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _line(kind: str, message: str, *, mode: str = "pull", **more: Any) -> bytes:
    return orjson.dumps({"type": kind, "message": message, "mode": mode, **more}) + b"\n"


def _error_line(error: HarbourError) -> bytes:
    return _line("error", f"{error.message} ({error.remedy})" if error.remedy else error.message)
