"""What a request may ask of generation, checked.  Defaults are llama.cpp's (``common/common.h``), limits are ours."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from runner.errors import RequestInvalid

MAX_TOP_K = 1000  # candidates that reach the later, slower samplers
DEFAULT_TOP_K = 40
MAX_LOGPROBS = 20  # OpenAI API reference, ``top_logprobs``
MAX_STOPS = 32
MAX_STOP_CHARS = 1024
MAX_GRAMMAR_BYTES = 1 << 20
MAX_LOGIT_BIAS = 1024
PENALTY_WINDOW = 64  # tokens, llama.cpp's ``penalty_last_n``
SEED_RANGE = 1 << 32


@dataclass(frozen=True)
class Sampling:
    temperature: float = 0.8
    top_k: int = DEFAULT_TOP_K
    top_p: float = 0.95
    min_p: float = 0.05
    seed: int | None = None
    repeat_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    penalty_window: int = PENALTY_WINDOW
    logit_bias: tuple[tuple[int, float], ...] = ()
    grammar: str = ""
    grammar_triggers: tuple[str, ...] = ()  # texts after which the grammar holds; none: from the first token on
    grammar_at_start: bool = False  # a trigger counts only where nothing but white space came before it
    logprobs: int = -1  # -1: none; n: the chosen token's and the n likeliest's
    ignore_eos: bool = False

    @property
    def greedy(self) -> bool:
        return self.temperature <= 0 or self.top_k == 1


@dataclass(frozen=True)
class Generation:
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None  # None: until the context is full
    stop: tuple[str, ...] = ()


def parse_generation(body: dict[str, Any]) -> Generation:
    """From a frame's ``options``; raises ``RequestInvalid`` naming the field."""
    sampling = Sampling(
        temperature=_number(body, "temperature", 0.8, 0, 100),
        top_k=_top_k(body),
        top_p=_number(body, "top_p", 0.95, 0, 1),
        min_p=_number(body, "min_p", 0.05, 0, 1),
        seed=_seed(body),
        repeat_penalty=_number(body, "repeat_penalty", 1.0, 0.01, 10),
        frequency_penalty=_number(body, "frequency_penalty", 0.0, -2, 2),
        presence_penalty=_number(body, "presence_penalty", 0.0, -2, 2),
        penalty_window=_integer(body, "penalty_window", PENALTY_WINDOW, 0, 65536),
        logit_bias=_logit_bias(body.get("logit_bias")),
        grammar=_grammar(body),
        grammar_triggers=tuple(body.get("grammar_triggers") or ()),
        grammar_at_start=bool(body.get("grammar_at_start")),
        logprobs=_integer(body, "logprobs", -1, -1, MAX_LOGPROBS),
        ignore_eos=bool(body.get("ignore_eos")),
    )
    limit = body.get("max_tokens")
    return Generation(
        sampling,
        max_tokens=None if limit is None else _integer(body, "max_tokens", 0, 1, 1 << 24),
        stop=_stops(body.get("stop")),
    )


def _number(body: dict[str, Any], name: str, default: float, low: float, high: float) -> float:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _wrong(name, f"should be a number from {low} to {high}")
    if not low <= value <= high:
        raise _wrong(name, f"should be from {low} to {high}, not {value}")
    return float(value)


def _integer(body: dict[str, Any], name: str, default: int, low: int, high: int) -> int:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise _wrong(name, f"should be a whole number from {low} to {high}")
    return value


def _top_k(body: dict[str, Any]) -> int:
    """0 and -1 mean "all" elsewhere; here they mean the most that we let through."""
    value = _integer(body, "top_k", DEFAULT_TOP_K, -1, 1 << 24)
    return MAX_TOP_K if value <= 0 else min(value, MAX_TOP_K)


def _seed(body: dict[str, Any]) -> int | None:
    value = body.get("seed")
    if value is None or value == -1:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong("seed", "should be a whole number")
    return value % SEED_RANGE


def _logit_bias(value: Any) -> tuple[tuple[int, float], ...]:
    if value is None:
        return ()
    if not isinstance(value, dict) or len(value) > MAX_LOGIT_BIAS:
        raise _wrong("logit_bias", f"should map at most {MAX_LOGIT_BIAS} token ids to numbers")
    try:
        pairs = tuple((int(token), float(bias)) for token, bias in value.items())
    except (TypeError, ValueError):
        raise _wrong("logit_bias", "should map token ids to numbers") from None
    if not all(-100 <= bias <= 100 for _, bias in pairs):  # OpenAI API reference, ``logit_bias``
        raise _wrong("logit_bias", "should hold numbers from -100 to 100")
    return pairs


def _grammar(body: dict[str, Any]) -> str:
    value = body.get("grammar") or ""
    if not isinstance(value, str) or len(value.encode(errors="replace")) > MAX_GRAMMAR_BYTES or "\0" in value:
        raise _wrong("grammar", f"should be a text of at most {MAX_GRAMMAR_BYTES} bytes")
    return value


def _stops(value: Any) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else (value or [])
    if not isinstance(stops, list | tuple) or len(stops) > MAX_STOPS:
        raise _wrong("stop", f"should be a text or a list of at most {MAX_STOPS} texts")
    if not all(isinstance(s, str) and 0 < len(s) <= MAX_STOP_CHARS for s in stops):
        raise _wrong("stop", f"should hold texts of 1 to {MAX_STOP_CHARS} characters")
    return tuple(stops)


def _wrong(name: str, why: str) -> RequestInvalid:
    return RequestInvalid(f"{name} {why}", remedy="correct the request", param=name)
