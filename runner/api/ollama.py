"""The part of Ollama's API that its clients use (ollama/ollama, ``docs/api.md``): generate, chat, embed, tags, show, ps."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from harbourmaster import __version__
from harbourmaster.core.errors import HarbourError
from runner.api.chat_request import ChatRequest, parse_chat, parse_messages
from runner.api.errors import ollama_body
from runner.api.http import Events, json_body, json_response, until_disconnect
from runner.api.pulling import pulling
from runner.chat.job import ChatEvent, Done, Text, ToolCall, generate
from runner.chat.pictures import lift, picture_part
from runner.chat.toolcalls import chat
from runner.configuration import parse_keep_alive
from runner.errors import RequestInvalid
from runner.scheduler.scheduler import Plan
from runner.service import Runner
from runner.store import fetch
from runner.store.store import Model

_OPTIONS = (
    "temperature", "top_p", "top_k", "min_p", "seed", "stop", "repeat_penalty", "presence_penalty", "frequency_penalty",
)  # fmt: skip


class Ollama:
    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    async def version(self, _request: Request) -> Response:
        return json_response({"version": __version__})

    async def tags(self, _request: Request) -> Response:
        return json_response({"models": [_model_body(m, name) for m in self._runner.store.all() for name in m.tags]})

    async def ps(self, _request: Request) -> Response:
        bodies = []
        for entry in self._runner.scheduler.status():
            left = entry["keep_alive_s"] - entry["idle_s"]
            until = datetime.now(UTC).timestamp() + (left if entry["keep_alive_s"] >= 0 else 10**9)
            bodies.append(
                {
                    "name": entry["name"],
                    "model": entry["name"],
                    "size": entry["bytes"],
                    "size_vram": 0,
                    "context_length": entry["context"],
                    "expires_at": datetime.fromtimestamp(until, UTC).isoformat(),
                }
            )
        return json_response({"models": bodies})

    async def show(self, request: Request) -> Response:
        body = await json_body(request)
        model = self._runner.store.find(str(body.get("model") or body.get("name") or ""))
        header = self._runner.headers(model)[0]
        info = {k: v for k, v in header.metadata.items() if isinstance(v, str | int | float) and len(str(v)) < 4096}
        return json_response(
            {
                "license": "\n".join(self._runner.store.licenses(model)),
                "template": self._runner.store.template(model) or header.template,
                "details": _details(model),
                "model_info": info,
                "capabilities": ["completion", "tools", *(["vision"] if model.layers.get("mmproj") else [])],
            }
        )

    async def chat(self, request: Request) -> Response:
        body = await json_body(request)
        plan = self._plan(body)
        if not body.get("messages"):
            return await self._load_or_unload(body, plan)
        asked = parse_chat(_as_openai(body))
        if body.get("stream") is not False:
            return Events(_lines(self._chat_bodies(asked, plan)), _error_line, "application/x-ndjson")
        asked = replace(asked, job=replace(asked.job, whole=True))
        return json_response(await until_disconnect(request, self._whole(self._chat_bodies(asked, plan))))

    async def generate(self, request: Request) -> Response:
        body = await json_body(request)
        plan = self._plan(body)
        if not body.get("prompt"):
            return await self._load_or_unload(body, plan)
        if body.get("stream") is not False:
            return Events(_lines(self._texts(body, plan)), _error_line, "application/x-ndjson")
        return json_response(await until_disconnect(request, self._whole(self._texts(body, plan))))

    async def embed(self, request: Request) -> Response:
        body = await json_body(request)
        value = body.get("input")
        inputs = [value] if isinstance(value, str) else value
        if not isinstance(inputs, list) or not all(isinstance(i, str) for i in inputs):
            raise RequestInvalid("input should be a text or a list of texts", param="input")

        async def work() -> Any:
            async with self._runner.scheduler.use(self._plan(body)) as engine:
                return await engine.ask({"op": "embed", "inputs": inputs})

        return json_response({"model": body["model"], "embeddings": await until_disconnect(request, work())})

    async def pull(self, request: Request) -> Response:
        body = await json_body(request)
        name = str(body.get("model") or body.get("name") or "")
        fetch.check_name(name)
        if body.get("stream") is False:
            async with aclosing(pulling(self._runner, name)) as steps:
                async for _ in steps:
                    pass
            return json_response({"status": "success"})
        return Events(_lines(self._pull(name)), _error_line, "application/x-ndjson")

    async def _pull(self, name: str) -> AsyncGenerator[dict[str, Any], None]:
        yield {"status": "pulling manifest"}
        async with aclosing(pulling(self._runner, name)) as steps:
            async for step in steps:
                if isinstance(step, Model):
                    yield {"status": "success"}
                else:
                    digest, current, total = step
                    status = f"pulling {digest[7:19]}"
                    yield {"status": status, "digest": digest, "total": total, "completed": current}

    async def copy(self, request: Request) -> Response:
        body = await json_body(request)
        self._runner.store.tag(str(body.get("source") or ""), str(body.get("destination") or ""))
        return Response(status_code=200)

    async def delete(self, request: Request) -> Response:
        body = await json_body(request)
        self._runner.store.remove(str(body.get("model") or body.get("name") or ""))
        return Response(status_code=200)

    # -- parts

    def _plan(self, body: dict[str, Any]) -> Plan:
        """``num_ctx`` and ``keep_alive`` are this request's wishes; another context is another load of the model."""
        changes: dict[str, Any] = {}
        if body.get("keep_alive") is not None:
            changes["keep_alive_s"] = parse_keep_alive(body["keep_alive"])
        context = _options(body).get("num_ctx")
        if context is not None:
            changes["context_size"] = context
        return self._runner.plan(str(body.get("model") or ""), **changes)

    async def _load_or_unload(self, body: dict[str, Any], plan: Plan) -> Response:
        if plan.keep_alive == 0:
            await self._runner.scheduler.unload([plan.key], why="keep_alive 0")
            reason = "unload"
        else:
            async with self._runner.scheduler.use(plan):
                reason = "load"
        return json_response({**_frame(body["model"]), "response": "", "done": True, "done_reason": reason})

    async def _chat_bodies(self, asked: ChatRequest, plan: Plan) -> AsyncGenerator[dict[str, Any], None]:
        began = time.monotonic_ns()
        async with self._runner.scheduler.use(plan) as engine, aclosing(chat(engine, asked.job)) as events:
            async for event in events:
                yield _chat_body(asked.model, event, began)

    async def _texts(self, body: dict[str, Any], plan: Plan) -> AsyncGenerator[dict[str, Any], None]:
        began = time.monotonic_ns()
        frame: dict[str, Any] = {"options": _job_options(body)}
        if body.get("raw"):
            frame["prompt"] = str(body["prompt"])
        else:
            system = [{"role": "system", "content": str(body["system"])}] if body.get("system") else []
            asked = {"role": "user", "content": _with_images(str(body["prompt"]), body.get("images"))}
            frame["messages"], pictures = lift(parse_messages([*system, asked]))
            frame |= {"images": pictures} if pictures else {}
        async with self._runner.scheduler.use(plan) as engine, aclosing(generate(engine, frame)) as events:
            async for event in events:
                if isinstance(event, Text):
                    yield {**_frame(body["model"]), "response": event.text, "done": False}
                else:
                    yield {**_frame(body["model"]), "response": "", **_done(event, began)}

    async def _whole(self, bodies: AsyncGenerator[dict[str, Any], None]) -> dict[str, Any]:
        """The pieces of a stream as one answer."""
        text = ""
        calls: list[dict[str, Any]] = []
        last: dict[str, Any] = {}
        async with aclosing(bodies):
            async for body in bodies:
                last = body
                message = body.get("message", {})
                text += message.get("content", "") or body.get("response", "")
                calls.extend(message.get("tool_calls", []))
        if "message" in last:
            message = {"role": "assistant", "content": text, **({"tool_calls": calls} if calls else {})}
            return {**last, "message": message}
        return {**last, "response": text}


def _as_openai(body: dict[str, Any]) -> dict[str, Any]:
    messages = [_message_in(m) for m in body["messages"]] if isinstance(body["messages"], list) else body["messages"]
    return {"model": body["model"], "messages": messages, "tools": body.get("tools"), **_openai_options(body)}


def _message_in(message: Any) -> Any:
    """Ollama's calls carry arguments as an object and no ID."""
    if not isinstance(message, dict):
        raise RequestInvalid("a message should be an object", param="messages")
    calls = message.get("tool_calls") or []
    content = _with_images(message.get("content"), message.get("images"))
    return {
        **message,
        "content": content,
        "tool_calls": [{"id": "", "type": "function", **c} for c in calls if isinstance(c, dict)],
    }


def _with_images(text: Any, images: Any) -> Any:
    """Ollama puts a message's pictures before its words."""
    if not images:
        return text
    if not isinstance(images, list):
        raise RequestInvalid("images should be a list of files in base64", param="images")
    return [*(picture_part(image) for image in images), {"type": "text", "text": text or ""}]


def _options(body: dict[str, Any]) -> dict[str, Any]:
    options = body.get("options")
    return options if isinstance(options, dict) else {}


def _openai_options(body: dict[str, Any]) -> dict[str, Any]:
    given = _options(body)
    options = {name: given[name] for name in _OPTIONS if given.get(name) is not None}
    limit = given.get("num_predict")
    if isinstance(limit, int) and limit > 0:
        options["max_tokens"] = limit
    form = body.get("format")
    if form == "json":
        options["response_format"] = {"type": "json_object"}
    elif isinstance(form, dict):
        options["response_format"] = {"type": "json_schema", "json_schema": {"schema": form}}
    return options


def _job_options(body: dict[str, Any]) -> dict[str, Any]:
    request = {"model": body["model"], "messages": [{"role": "user", "content": "-"}], **_openai_options(body)}
    return parse_chat(request).job.options


def _chat_body(model: str, event: ChatEvent, began: int) -> dict[str, Any]:
    if isinstance(event, Text):
        return {**_frame(model), "message": {"role": "assistant", "content": event.text}, "done": False}
    if isinstance(event, ToolCall):
        call = {"function": {"name": event.name, "arguments": event.arguments}}
        return {**_frame(model), "message": {"role": "assistant", "content": "", "tool_calls": [call]}, "done": False}
    return {**_frame(model), "message": {"role": "assistant", "content": ""}, **_done(event, began)}


def _done(event: Done, began: int) -> dict[str, Any]:
    return {
        "done": True,
        "done_reason": "length" if event.reason == "length" else "stop",
        "total_duration": time.monotonic_ns() - began,
        "load_duration": 0,
        "prompt_eval_count": event.usage.prompt_tokens,
        "prompt_eval_duration": int(event.timings.get("prefill_s", 0) * 1e9),
        "eval_count": event.usage.completion_tokens,
        "eval_duration": int(event.timings.get("generation_s", 0) * 1e9),
    }


def _frame(model: str) -> dict[str, Any]:
    return {"model": model, "created_at": datetime.now(UTC).isoformat()}


def _details(model: Model) -> dict[str, Any]:
    config = model.config
    return {
        "format": config.format,
        "family": config.architecture,
        "families": [config.architecture],
        "parameter_size": config.parameters,
        "quantization_level": config.quantization,
    }


def _model_body(model: Model, name: str) -> dict[str, Any]:
    modified = datetime.fromtimestamp(model.created_epoch(), UTC).isoformat()
    return {
        "name": name,
        "model": name,
        "modified_at": modified,
        "size": model.size,
        "digest": model.id.removeprefix("sha256:"),
        "details": _details(model),
    }


async def _lines(bodies: AsyncGenerator[dict[str, Any], None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(bodies):
        async for body in bodies:
            yield orjson.dumps(body) + b"\n"


def _error_line(error: HarbourError) -> bytes:
    return orjson.dumps(ollama_body(error)) + b"\n"
