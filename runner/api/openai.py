"""OpenAI's API: chat completions, completions, embeddings, models."""

from __future__ import annotations

import asyncio
import base64
import secrets
import struct
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from runner.api.chat_request import ChatRequest, adapters, integer, model_name, parse_chat, parse_options
from runner.api.errors import openai_body
from runner.api.http import SSE_DONE, Events, Phrase, client_of, json_body, json_response, sse, until_disconnect
from runner.chat.job import ChatEvent, Done, Text, ToolCall, Usage, generate
from runner.chat.toolcalls import chat
from runner.engine.remote import RemoteEngine
from runner.errors import ModelNotFound, RequestInvalid
from runner.remotes import Remote
from runner.service import Runner
from runner.store.store import Model

MAX_PROMPTS = 64


class OpenAI:
    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    # -- chat

    async def chat_completions(self, request: Request) -> Response:
        body = await json_body(request)
        asked = parse_chat(body)
        plan = self._runner.plan(asked.model, **adapters(body))
        if request.headers.get("X-Preload-Only") == "true":  # Docker's runner: load, answer nothing
            async with self._runner.scheduler.use(plan, client=client_of(request)):
                return json_response({})
        if asked.stream:
            return Events(self._stream(asked, plan, client_of(request)), _sse_error, "text/event-stream")
        return json_response(await until_disconnect(request, self._answer(asked, plan, client_of(request))))

    async def _answer(self, asked: ChatRequest, plan: Any, client: str) -> dict[str, Any]:
        async with self._runner.scheduler.use(plan, client=client) as engine:
            whole = replace(asked, job=replace(asked.job, whole=True))
            choices = await asyncio.gather(*(_collect(engine, whole, i) for i in range(asked.choices)))
        usage = _sum([u for _, u in choices])
        return {
            "id": _id("chatcmpl"),
            "object": "chat.completion",
            "created": int(time.time()),
            "model": asked.model,
            "choices": [choice for choice, _ in choices],
            "usage": usage_body(usage),
        }

    async def _stream(self, asked: ChatRequest, plan: Any, client: str) -> AsyncGenerator[bytes, None]:
        frame = {
            "id": _id("chatcmpl"),
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": asked.model,
        }
        nothing = {"usage": None} if asked.include_usage else {}
        usages: list[Usage] = []
        says: dict[int, Phrase] = {}
        async with self._runner.scheduler.use(plan, client=client) as engine:
            streams = [chat(engine, _seeded(asked, i)) for i in range(asked.choices)]
            async with aclosing(_interleave(streams)) as events:
                async for index, event in events:
                    opening = b""
                    if (say := says.get(index)) is None:
                        say = says[index] = Phrase(partial(_text_piece, {**frame, "choices": [], **nothing}, index))
                        opening = sse({**frame, "choices": [_opening(index)], **nothing})
                    if isinstance(event, Text) and not event.logprobs:
                        yield opening + say(event.text)
                        continue
                    if isinstance(event, Done):
                        usages.append(event.usage)
                    yield opening + sse({**frame, "choices": [_chunk(index, event)], **nothing})
        rest = sse({**frame, "choices": [], "usage": usage_body(_sum(usages))}) if asked.include_usage else b""
        yield rest + SSE_DONE

    # -- completions

    async def completions(self, request: Request) -> Response:
        body = await json_body(request)
        plan = self._runner.plan(model_name(body), **adapters(body))
        frames = _completion_frames(body)
        if body.get("stream") is True:
            return Events(self._stream_texts(body, frames, plan, client_of(request)), _sse_error, "text/event-stream")
        return json_response(await until_disconnect(request, self._texts(body, frames, plan, client_of(request))))

    async def _texts(self, body: dict[str, Any], frames: list[dict[str, Any]], plan: Any, client: str) -> Any:
        async def one(engine: Any, index: int, frame: dict[str, Any]) -> tuple[dict[str, Any], Usage]:
            text = ""
            logprobs: list[dict[str, Any]] = []
            async for event in generate(engine, {**frame, "whole": True}):
                if isinstance(event, Text):
                    text += event.text
                    logprobs.extend(event.logprobs)
                else:
                    return _text_choice(index, text, logprobs, event.reason), event.usage
            raise AssertionError("a stream ends with done")

        async with self._runner.scheduler.use(plan, client=client) as engine:
            done = await asyncio.gather(*(one(engine, i, f) for i, f in enumerate(frames)))
        usage = usage_body(_sum([u for _, u in done]))
        return {**_text_frame(body), "choices": [choice for choice, _ in done], "usage": usage}

    async def _stream_texts(
        self, body: dict[str, Any], frames: list[dict[str, Any]], plan: Any, client: str
    ) -> AsyncGenerator[bytes, None]:
        shared = _text_frame(body)
        usages = []
        says = [Phrase(partial(_completion_piece, shared, i)) for i in range(len(frames))]
        async with (
            self._runner.scheduler.use(plan, client=client) as engine,
            aclosing(_interleave([generate(engine, f) for f in frames])) as events,
        ):
            async for index, event in events:
                if isinstance(event, Done):
                    usages.append(event.usage)
                    yield sse({**shared, "choices": [_text_choice(index, "", [], event.reason)]})
                elif not event.logprobs:
                    yield says[index](event.text)
                else:
                    yield sse({**shared, "choices": [_text_choice(index, event.text, list(event.logprobs), None)]})
        asked = (body.get("stream_options") or {}).get("include_usage")
        rest = sse({**shared, "choices": [], "usage": usage_body(_sum(usages))}) if asked else b""
        yield rest + SSE_DONE

    # -- embeddings

    async def embeddings(self, request: Request) -> Response:
        body = await json_body(request)
        plan = self._runner.plan(model_name(body))
        inputs = _inputs(body.get("input"))
        form = body.get("encoding_format", "float")
        if form not in ("float", "base64"):
            raise RequestInvalid("encoding_format should be float or base64", param="encoding_format")
        width = integer(body, "dimensions", 0, 1, 1 << 16) if body.get("dimensions") is not None else 0
        client = client_of(request)

        async def work() -> tuple[list[list[float]], int]:
            async with self._runner.scheduler.use(plan, client=client) as engine:
                if isinstance(engine, RemoteEngine):
                    return await engine.embed(inputs)
                vectors = await engine.ask({"op": "embed", "inputs": inputs})
                counts = await asyncio.gather(*(_count(engine, i) for i in inputs))
                return vectors, sum(counts)

        vectors, tokens = await until_disconnect(request, work())
        data = [
            {"object": "embedding", "index": i, "embedding": _encoded(_cut(v, width), form)}
            for i, v in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return json_response({"object": "list", "data": data, "model": body["model"], "usage": usage})

    # -- models

    async def models(self, _request: Request) -> Response:
        data = [self.model_body(m, name) for m in self._runner.store.all() for name in m.tags]
        data += [_remote_body(r) for r in self._runner.remotes.all()]
        return json_response({"object": "list", "data": data})

    async def model(self, request: Request) -> Response:
        name = request.path_params["name"]
        try:
            if remote := self._runner.remotes.find(name):
                return json_response(_remote_body(remote))
            return json_response(self.model_body(self._runner.store.find(name), name))
        except RequestInvalid as e:
            raise ModelNotFound(e.message, remedy=e.remedy, param="model") from None

    def model_body(self, model: Model, name: str) -> dict[str, Any]:
        config = model.config
        body: dict[str, Any] = {
            "id": name,
            "object": "model",
            "created": model.created_epoch(),
            "owned_by": "harbourmaster",
        }
        facts: dict[str, Any] = {
            "architecture": config.architecture,
            "parameters": config.parameters,
            "quantization": config.quantization,
            "size": config.size,
        }
        if config.format == "gguf":
            facts["context_window"] = self._runner.context_of(model)
        body["dmr"] = {k: v for k, v in facts.items() if v}  # Docker's name for these facts: clients read them there
        return body


def _remote_body(remote: Remote) -> dict[str, Any]:
    facts = {"context_window": remote.context} if remote.context else {}
    return {"id": remote.name, "object": "model", "created": 0, "owned_by": remote.url, "dmr": facts}


# -- choices


async def _collect(engine: Any, asked: ChatRequest, index: int) -> tuple[dict[str, Any], Usage]:
    text = ""
    logprobs: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    async for event in chat(engine, _seeded(asked, index)):
        if isinstance(event, Text):
            text += event.text
            logprobs.extend(event.logprobs)
        elif isinstance(event, ToolCall):
            calls.append(tool_call_body(event))
        else:
            message: dict[str, Any] = {"role": "assistant", "content": text if text or not calls else None}
            if calls:
                message["tool_calls"] = calls
            choice = {"index": index, "message": message, "finish_reason": event.reason, "logprobs": None}
            if asked.job.options.get("logprobs") is not None:
                choice["logprobs"] = {"content": logprobs}
            return choice, event.usage
    raise AssertionError("a stream ends with done")


def _text_piece(frame: dict[str, Any], index: int, text: str) -> bytes:
    return sse({**frame, "choices": [_chunk(index, Text(text))]})


def _opening(index: int) -> dict[str, Any]:
    """Only the first piece names the role: clients join what later ones repeat."""
    return {"index": index, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}


def _chunk(index: int, event: ChatEvent) -> dict[str, Any]:
    if isinstance(event, Done):
        return {"index": index, "delta": {}, "finish_reason": event.reason}
    if isinstance(event, ToolCall):
        delta: dict[str, Any] = {"tool_calls": [{"index": event.index, **tool_call_body(event)}]}
        return {"index": index, "delta": delta, "finish_reason": None}
    choice: dict[str, Any] = {"index": index, "delta": {"content": event.text}, "finish_reason": None}
    if event.logprobs:
        choice["logprobs"] = {"content": list(event.logprobs)}
    return choice


def tool_call_body(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments_text}}


def _seeded(asked: ChatRequest, index: int) -> Any:
    """Choices of one request differ: the seed of each is the request's plus its index."""
    seed = asked.job.options.get("seed")
    if index == 0 or not isinstance(seed, int):
        return asked.job
    return replace(asked.job, options={**asked.job.options, "seed": seed + index})


async def _interleave(streams: list[AsyncGenerator[Any, None]]) -> AsyncGenerator[tuple[int, Any], None]:
    """Events of several streams as they come, each with its stream's index."""
    if len(streams) == 1:
        async with aclosing(streams[0]) as only:
            async for event in only:
                yield 0, event
        return
    queue: asyncio.Queue[tuple[int, Any, BaseException | None]] = asyncio.Queue()

    async def pump(index: int, stream: AsyncGenerator[Any, None]) -> None:
        try:
            async with aclosing(stream):
                async for event in stream:
                    queue.put_nowait((index, event, None))
            queue.put_nowait((index, None, None))
        except Exception as e:
            queue.put_nowait((index, None, e))

    tasks = [asyncio.create_task(pump(i, s)) for i, s in enumerate(streams)]
    try:
        left = len(tasks)
        while left:
            index, event, error = await queue.get()
            if error:
                raise error
            if event is None:
                left -= 1
            else:
                yield index, event
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# -- completions and embeddings


def _completion_frames(body: dict[str, Any]) -> list[dict[str, Any]]:
    options = parse_options(body)
    if body.get("logprobs") is not None and body.get("logprobs") is not False:
        options["logprobs"] = integer(body, "logprobs", 0, 0, 20)
    for name in ("echo", "suffix"):
        if body.get(name):
            raise RequestInvalid(f"{name} is not supported", remedy="leave it out", param=name)
    prompts = _inputs(body.get("prompt"), "prompt")
    times = integer(body, "n", 1, 1, 16)
    if len(prompts) * times > MAX_PROMPTS:
        raise RequestInvalid(f"at most {MAX_PROMPTS} completions at once", param="prompt")
    return [
        {"options": _with_seed(options, i), **({"prompt": p} if isinstance(p, str) else {"tokens": p})}
        for p in prompts
        for i in range(times)
    ]


def _with_seed(options: dict[str, Any], index: int) -> dict[str, Any]:
    seed = options.get("seed")
    return {**options, "seed": seed + index} if isinstance(seed, int) else options


def _inputs(value: Any, name: str = "input") -> list[Any]:
    """A text, a list of texts, a list of token ids, or a list of such lists."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value:
        if all(type(v) is int for v in value):
            return [value]
        if all(isinstance(v, str) for v in value) or all(isinstance(v, list) for v in value):
            return value
    raise RequestInvalid(f"{name} should be a text, a list of texts, or token ids", param=name)


async def _count(engine: Any, value: Any) -> int:
    if isinstance(value, list):
        return len(value)
    return int(await engine.ask({"op": "count", "prompt": value, "parse_special": False}))


def _cut(vector: list[float], width: int) -> list[float]:
    """The first ``width`` numbers at length 1 again (OpenAI API reference, ``dimensions``)."""
    if not width or width >= len(vector):
        return vector
    norm = sum(x * x for x in vector[:width]) ** 0.5
    return [x / norm for x in vector[:width]] if norm else vector[:width]


def _encoded(vector: list[float], form: str) -> list[float] | str:
    if form == "float":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _text_frame(body: dict[str, Any]) -> dict[str, Any]:
    return {"id": _id("cmpl"), "object": "text_completion", "created": int(time.time()), "model": body["model"]}


def _completion_piece(frame: dict[str, Any], index: int, text: str) -> bytes:
    return sse({**frame, "choices": [_text_choice(index, text, [], None)]})


def _text_choice(index: int, text: str, logprobs: list[dict[str, Any]], reason: str | None) -> dict[str, Any]:
    shown = None
    if logprobs:
        shown = {
            "tokens": [entry["token"] for entry in logprobs],
            "token_logprobs": [entry["logprob"] for entry in logprobs],
            "top_logprobs": [{t["token"]: t["logprob"] for t in entry["top_logprobs"]} for entry in logprobs],
            "text_offset": [],
        }
    return {"index": index, "text": text, "finish_reason": reason, "logprobs": shown}


# -- helpers


def usage_body(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def _sum(usages: list[Usage]) -> Usage:
    total = Usage()
    for usage in usages:
        total = total.plus(usage)
    return total


def _sse_error(error: Any) -> bytes:
    return sse(openai_body(error))


def _id(prefix: str) -> str:
    return f"{prefix}-{secrets.token_hex(12)}"
