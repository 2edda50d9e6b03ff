"""The text side of an engine process: frames in, tokens to the writer, text out.  Runs on the main thread."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harbourmaster.core.errors import HarbourError
from runner.chat.literal import Literals, split
from runner.chat.stream import TextStream
from runner.chat.template import ChatTemplate
from runner.engine.context import PHYSICAL_BATCH
from runner.engine.model import Model, Tokens
from runner.engine.options import Generation, parse_generation
from runner.engine.pictures import Picture, Prompt, join
from runner.engine.requests import Ask, Cancel, Embed, Event, Failed, Finished, Generate, Result, Token
from runner.engine.sampling import Likelihood
from runner.engine.vision import Vision
from runner.engine.writer import Writer
from runner.errors import EngineFailed, PromptTooLong, RequestInvalid, TemplateRefused, Unsupported

Part = tuple[str, bool]  # text, and whether special texts in it are control tokens
MAX_INPUTS = 2048  # embeddings in one request (OpenAI API reference, ``input``)


@dataclass(slots=True)
class _Stream:
    text: TextStream
    special: bool  # show control tokens: tool-call formats are made of them
    prompt_tokens: int
    tokens: int = 0
    stopping: bool = False
    whole: list[str] | None = None  # the answer so far, where it is told at its end


@dataclass
class Session:
    model: Model
    writer: Writer
    template: ChatTemplate | None
    context: int  # tokens
    send: Callable[[list[dict[str, Any]]], None]
    embed_limit: int = 0
    vision: Vision | None = None
    batch: int = PHYSICAL_BATCH  # rows that are computed at once
    _streams: dict[int, _Stream] = field(default_factory=dict)
    _looking: dict[int, asyncio.Task[None]] = field(default_factory=dict)  # requests whose pictures are looked at

    def __post_init__(self) -> None:
        self._literals = Literals(self.model.special_texts())
        self._eyes = ThreadPoolExecutor(1, "eyes")

    # -- from the parent

    def on_frame(self, frame: dict[str, Any]) -> None:
        op, request_id = frame.get("op"), int(frame.get("id", -1))
        try:
            if op == "generate":
                self._generate(request_id, frame)
            elif op == "cancel":
                self._cancel(request_id)
            elif op == "embed":
                self._embed(request_id, frame)
            elif op == "rerank":
                self._rerank(request_id, frame)
            elif op == "count":
                self._read(request_id, frame, lambda prompt: self._tell(request_id, len(prompt.tokens)))
            elif op == "tokenize":
                tokens = self._prompt(frame)
                self._tell(request_id, tokens.tolist())
            elif op == "stats":
                self.writer.mailbox.put(Ask(request_id, self.writer.snapshot))
            else:
                raise RequestInvalid(f"no operation {op!r}")
        except HarbourError as e:
            self.send([_error(request_id, e)])

    def _generate(self, request_id: int, frame: dict[str, Any]) -> None:
        if not self.model.facts.generates:
            raise RequestInvalid("this model makes embeddings, not text", remedy="use a chat model", param="model")
        generation = parse_generation(frame.get("options") or {})
        self._read(request_id, frame, lambda prompt: self._begin(request_id, frame, generation, prompt))

    def _begin(self, request_id: int, frame: dict[str, Any], generation: Generation, prompt: Prompt) -> None:
        length = len(prompt.tokens)
        self._check_length(prompt.tokens, self.context - 1)
        whole: list[str] | None = [] if frame.get("whole") else None  # nobody is woken for what nobody sees yet
        special = bool(frame.get("special"))
        self._streams[request_id] = _Stream(TextStream(generation.stop), special, length, whole=whole)
        self.writer.mailbox.put(Generate(request_id, prompt, _fitted(generation, self.context - length)))

    def _cancel(self, request_id: int) -> None:
        if looking := self._looking.pop(request_id, None):
            looking.cancel()
        else:
            self.writer.mailbox.put(Cancel(request_id))

    def _tell(self, request_id: int, value: Any) -> None:
        self.send([{"id": request_id, "ev": "result", "value": value}])

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

    # -- pictures

    def _read(self, request_id: int, frame: dict[str, Any], then: Callable[[Prompt], None]) -> None:
        """``then`` with the prompt: at once, or when its pictures have been looked at."""
        if not frame.get("images"):
            then(Prompt(self._prompt(frame)))
            return
        if self.vision is None:
            raise Unsupported(
                "this model reads text only",
                remedy="use one that was packaged with a projector (--mmproj)",
                param="messages",
            )
        parts = picture_parts(self._rendered(frame), frame["images"])
        words = self._tokens([part for part in parts if not isinstance(part, bytes)])
        self._check_length(words, self.context - 1)  # before minutes are spent on its pictures
        self._looking[request_id] = asyncio.ensure_future(self._look(request_id, parts, then))

    async def _look(self, request_id: int, parts: list[Part | bytes], then: Callable[[Prompt], None]) -> None:
        assert self.vision is not None
        loop = asyncio.get_running_loop()
        pieces: list[Tokens | Picture] = []
        try:
            for index, part in enumerate(parts):
                if isinstance(part, bytes):
                    pieces += await loop.run_in_executor(self._eyes, self.vision.see, part)
                else:
                    pieces.append(self._tokens([part], first=index == 0))
            prompt = join(pieces)
            check_pictures(prompt, min(self.batch, PHYSICAL_BATCH))
            then(prompt)
        except Exception as e:
            self.send([_error(request_id, e)])
        finally:
            self._looking.pop(request_id, None)

    def _chat(self, frame: dict[str, Any]) -> Tokens:
        return self._tokens(self._rendered(frame))

    def _rendered(self, frame: dict[str, Any]) -> list[Part]:
        """The prompt as text: parts, each with whether special texts in it are control tokens."""
        if self.template is None:
            raise TemplateRefused(
                "the model has no chat template", remedy="package it with one (hm model package --chat-template)"
            )
        kept: list[str] = []
        messages = self._literals.protect(frame["messages"], kept)
        tools = self._literals.protect(frame.get("tools"), kept)
        rendered = self.template.render(messages, tools=tools, extra=frame.get("template_args") or {})
        return split(rendered + str(frame.get("prefill", "")), kept)

    def _tokens(self, parts: list[Part], *, first: bool = True) -> Tokens:
        """``first``: the prompt begins with these."""
        bos = self.model.token_text("bos")
        # Templates write the first token themselves; where one does not, the tokenizer may.
        add_special = first and not (bos and parts and parts[0][0].startswith(bos))
        tokens = [
            self.model.tokenize(part, add_special=add_special and i == 0, parse_special=special)
            for i, (part, special) in enumerate(parts)
        ]
        return np.concatenate(tokens) if tokens else np.empty(0, np.int32)

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
        """What a step has brought, as one message: this runs while the next one computes, on the cores that it needs."""
        ids: list[int] = []
        texts: list[str] = []
        frames: list[dict[str, Any]] = []
        for event in events:
            if not isinstance(event, Token):
                frames.extend(self._on_end(event))
            elif (text := self._text(event)) is not None:
                if event.likelihood is not None:
                    logprob = self._likelihood(event.token, event.likelihood)
                    frames.append({"id": event.id, "ev": "delta", "text": text, "logprob": logprob})
                elif text:
                    ids.append(event.id)
                    texts.append(text)
        if ids:
            frames.insert(0, {"ev": "step", "ids": ids, "texts": texts})
        if frames:
            self.send(frames)

    def _on_end(self, event: Finished | Failed | Result) -> list[dict[str, Any]]:
        if isinstance(event, Finished):
            return self._on_finished(event)
        if isinstance(event, Failed):
            self._streams.pop(event.id, None)
            return [_error(event.id, event.error)]
        return [{"id": event.id, "ev": "result", "value": event.value}]

    def _text(self, event: Token) -> str | None:
        """What a token adds to its answer; None where nobody waits for it any more."""
        stream = self._streams.get(event.id)
        if stream is None or stream.stopping:
            return None
        stream.tokens += 1
        piece = self.model.special_piece(event.token) if stream.special else self.model.piece(event.token)
        text = stream.text.push(piece)
        if stream.text.stopped:
            stream.stopping = True
            self.writer.mailbox.put(Cancel(event.id))
        if stream.whole is None or event.likelihood is not None:
            return text
        stream.whole.append(text)
        return ""

    def _on_finished(self, event: Finished) -> list[dict[str, Any]]:
        stream = self._streams.pop(event.id, None)
        if stream is None:
            return []
        frames = []
        rest = "".join(stream.whole or ()) + stream.text.finish()
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
                "kept_bytes": self.writer.kept_bytes,
            }
        )
        return frames

    def _likelihood(self, token: int, likelihood: Likelihood) -> dict[str, Any]:
        def shown(t: int, logprob: float) -> dict[str, Any]:
            piece = self.model.special_piece(t)
            return {"token": piece.decode(errors="replace"), "bytes": list(piece), "logprob": max(logprob, -9999.0)}

        return {**shown(token, likelihood.chosen), "top_logprobs": [shown(t, p) for t, p in likelihood.top]}


def picture_parts(parts: list[Part], images: list[dict[str, str]]) -> list[Part | bytes]:
    """``parts`` with the file of a picture in place of its mark; raises ``TemplateRefused`` unless each stands there once."""
    files = {image["mark"]: image["data"] for image in images}
    marks = re.compile(f"({'|'.join(map(re.escape, files))})")
    pieces = [(piece, special) for text, special in parts for piece in marks.split(text) if piece]
    found = [piece for piece, _ in pieces if piece in files]
    if sorted(found) != sorted(files):
        raise TemplateRefused(
            f"the chat template put {len(found)} pictures into the prompt where {len(files)} were sent",
            remedy="put pictures into the user's messages",
        )
    return [base64.b64decode(files[piece]) if piece in files else (piece, special) for piece, special in pieces]


def check_pictures(prompt: Prompt, most: int) -> None:
    """``most``: rows that can be computed at once.  Raises ``Unsupported``."""
    for start, picture in prompt.pictures:
        if start + picture.count == len(prompt.tokens):
            raise Unsupported("the prompt ends with a picture", remedy="write something after it", param="messages")
        if not picture.causal and picture.count > most:
            raise Unsupported(
                f"this model has to see {picture.count} rows of a picture at once, and {most} can be computed so",
                remedy="send a smaller picture",
                param="messages",
            )


def _fitted(generation: Generation, room: int) -> Generation:
    most = room if generation.max_tokens is None else min(room, generation.max_tokens)
    return Generation(generation.sampling, most, generation.stop)


def _error(request_id: int, error: Exception) -> dict[str, Any]:
    if not isinstance(error, HarbourError):
        error = EngineFailed(f"the engine failed: {type(error).__name__}: {error}")
    return {"id": request_id, "ev": "error", "error": error.as_dict()}
