"""The text side of an engine process: frames in, tokens to the writer, text out.  Runs on the main thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harbourmaster.core.errors import HarbourError
from runner.chat.literal import Literals, split
from runner.chat.stream import TextStream
from runner.chat.template import ChatTemplate
from runner.engine.model import Model, Tokens
from runner.engine.options import Generation, parse_generation
from runner.engine.requests import Ask, Cancel, Embed, Event, Failed, Finished, Generate, Token
from runner.engine.sampling import Likelihood
from runner.engine.writer import Writer
from runner.errors import EngineFailed, PromptTooLong, RequestInvalid, TemplateRefused

MAX_INPUTS = 2048  # embeddings in one request (OpenAI API reference, ``input``)


@dataclass
class _Stream:
    text: TextStream
    special: bool  # show control tokens: tool-call formats are made of them
    prompt_tokens: int
    tokens: int = 0
    stopping: bool = False


@dataclass
class Session:
    model: Model
    writer: Writer
    template: ChatTemplate | None
    context: int  # tokens
    send: Callable[[list[dict[str, Any]]], None]
    embed_limit: int = 0
    _streams: dict[int, _Stream] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._literals = Literals(self.model.special_texts())

    # -- from the parent

    def on_frame(self, frame: dict[str, Any]) -> None:
        op, request_id = frame.get("op"), int(frame.get("id", -1))
        try:
            if op == "generate":
                self._generate(request_id, frame)
            elif op == "cancel":
                self.writer.mailbox.put(Cancel(request_id))
            elif op == "embed":
                self._embed(request_id, frame)
            elif op == "rerank":
                self._rerank(request_id, frame)
            elif op == "count":
                tokens = self._prompt(frame)
                self.send([{"id": request_id, "ev": "result", "value": len(tokens)}])
            elif op == "tokenize":
                tokens = self._prompt(frame)
                self.send([{"id": request_id, "ev": "result", "value": tokens.tolist()}])
            elif op == "stats":
                self.writer.mailbox.put(Ask(request_id, self.writer.snapshot))
            else:
                raise RequestInvalid(f"no operation {op!r}")
        except HarbourError as e:
            self.send([_error(request_id, e)])

    def _generate(self, request_id: int, frame: dict[str, Any]) -> None:
        if not self.model.facts.generates:
            raise RequestInvalid("this model makes embeddings, not text", remedy="use a chat model", param="model")
        options = frame.get("options") or {}
        generation = parse_generation(options)
        tokens = self._prompt(frame)
        self._check_length(tokens, self.context - 1)
        self._streams[request_id] = _Stream(TextStream(generation.stop), bool(frame.get("special")), len(tokens))
        self.writer.mailbox.put(Generate(request_id, tokens, _fitted(generation, self.context - len(tokens))))

    def _embed(self, request_id: int, frame: dict[str, Any]) -> None:
        if self.model.facts.ranks:
            raise RequestInvalid("this model ranks documents; it makes no embeddings", param="model")
        inputs = frame.get("inputs") or []
        if not inputs or len(inputs) > MAX_INPUTS:
            raise RequestInvalid(f"input should hold 1 to {MAX_INPUTS} texts", param="input")
        arrays = tuple(self._input(i) for i in inputs)
        for tokens in arrays:
            self._check_length(tokens, self.embed_limit)
        self.writer.mailbox.put(Embed(request_id, arrays))

    def _rerank(self, request_id: int, frame: dict[str, Any]) -> None:
        """One number for each document; of rerankers only."""
        if not self.model.facts.ranks:
            raise RequestInvalid("this model does not rank", remedy="use a reranking model", param="model")
        pairs = tuple(self.model.rank_pair(frame["query"], document) for document in frame["documents"])
        for tokens in pairs:
            self._check_length(tokens, self.embed_limit)
        self.writer.mailbox.put(Embed(request_id, pairs))

    def _input(self, value: Any) -> Tokens:
        if isinstance(value, str):
            tokens = self.model.tokenize(value, add_special=True, parse_special=False)
        else:
            tokens = self._checked(value)
        if not len(tokens):
            raise RequestInvalid("an input is empty", param="input")
        return tokens

    def _prompt(self, frame: dict[str, Any]) -> Tokens:
        """Tokens of ``messages`` through the template, of a ``prompt`` text, or as given."""
        if "tokens" in frame:
            return self._checked(frame["tokens"])
        if "messages" in frame:
            return self._chat(frame)
        prompt = str(frame.get("prompt", ""))
        tokens = self.model.tokenize(prompt, add_special=True, parse_special=bool(frame.get("parse_special", True)))
        if not len(tokens):
            raise RequestInvalid("the prompt is empty", param="prompt")
        return tokens

    def _chat(self, frame: dict[str, Any]) -> Tokens:
        if self.template is None:
            raise TemplateRefused(
                "the model has no chat template", remedy="package it with one (hm model package --chat-template)"
            )
        kept: list[str] = []
        messages = self._literals.protect(frame["messages"], kept)
        tools = self._literals.protect(frame.get("tools"), kept)
        rendered = self.template.render(messages, tools=tools, extra=frame.get("template_args") or {})
        text = rendered + str(frame.get("prefill", ""))
        bos = self.model.token_text("bos")
        # Templates write the first token themselves; where one does not, the tokenizer may.
        add_special = not (bos and text.startswith(bos))
        parts = [
            self.model.tokenize(part, add_special=add_special and i == 0, parse_special=special)
            for i, (part, special) in enumerate(split(text, kept))
        ]
        return np.concatenate(parts) if parts else np.empty(0, np.int32)

    def _checked(self, value: Any) -> Tokens:
        if not isinstance(value, list) or not all(type(t) is int and 0 <= t < self.model.size for t in value):
            raise RequestInvalid(f"token ids should be whole numbers below {self.model.size}", param="input")
        return np.array(value, np.int32)

    def _check_length(self, tokens: Tokens, most: int) -> None:
        if not len(tokens):
            raise RequestInvalid("the prompt is empty", param="messages")
        if len(tokens) > most:
            raise PromptTooLong(
                f"the prompt has {len(tokens)} tokens and the context holds {most}; nothing was cut",
                remedy="shorten the prompt, or load the model with a larger context",
                prompt_tokens=len(tokens),
                context_tokens=most,
            )

    # -- from the writer

    def on_events(self, events: list[Event]) -> None:
        frames = []
        for event in events:
            if isinstance(event, Token):
                frames.extend(self._on_token(event))
            elif isinstance(event, Finished):
                frames.extend(self._on_finished(event))
            elif isinstance(event, Failed):
                self._streams.pop(event.id, None)
                frames.append(_error(event.id, event.error))
            else:
                frames.append({"id": event.id, "ev": "result", "value": event.value})
        if frames:
            self.send(frames)

    def _on_token(self, event: Token) -> list[dict[str, Any]]:
        stream = self._streams.get(event.id)
        if stream is None or stream.stopping:
            return []
        stream.tokens += 1
        piece = self.model.special_piece(event.token) if stream.special else self.model.piece(event.token)
        text = stream.text.push(piece)
        if stream.text.stopped:
            stream.stopping = True
            self.writer.mailbox.put(Cancel(event.id))
        if not text and event.likelihood is None:
            return []
        frame: dict[str, Any] = {"id": event.id, "ev": "delta", "text": text}
        if event.likelihood is not None:
            frame["logprob"] = self._likelihood(event.token, event.likelihood)
        return [frame]

    def _on_finished(self, event: Finished) -> list[dict[str, Any]]:
        stream = self._streams.pop(event.id, None)
        if stream is None:
            return []
        frames = []
        rest = stream.text.finish()
        if rest:
            frames.append({"id": event.id, "ev": "delta", "text": rest})
        reason = "stop" if stream.text.stopped else event.reason
        frames.append(
            {
                "id": event.id,
                "ev": "done",
                "reason": reason,
                "stop": stream.text.stopped,
                "usage": {
                    "prompt_tokens": stream.prompt_tokens,
                    "completion_tokens": stream.tokens,
                    "cached_tokens": event.cached_tokens,
                },
                "timings": event.timings,
            }
        )
        return frames

    def _likelihood(self, token: int, likelihood: Likelihood) -> dict[str, Any]:
        def shown(t: int, logprob: float) -> dict[str, Any]:
            piece = self.model.special_piece(t)
            return {"token": piece.decode(errors="replace"), "bytes": list(piece), "logprob": max(logprob, -9999.0)}

        return {**shown(token, likelihood.chosen), "top_logprobs": [shown(t, p) for t, p in likelihood.top]}


def _fitted(generation: Generation, room: int) -> Generation:
    most = room if generation.max_tokens is None else min(room, generation.max_tokens)
    return Generation(generation.sampling, most, generation.stop)


def _error(request_id: int, error: Exception) -> dict[str, Any]:
    if not isinstance(error, HarbourError):
        error = EngineFailed(f"the engine failed: {type(error).__name__}: {error}")
    return {"id": request_id, "ev": "error", "error": error.as_dict()}
