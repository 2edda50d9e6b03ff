"""One request's sampler.  The likeliest token is looked up in the logits themselves; else it is a chain of the library's,
with top-k first: every later sampler then sees at most a thousand candidates."""

from __future__ import annotations

import ctypes
import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runner.engine.context import Context
from runner.engine.model import Model
from runner.engine.options import MAX_TOP_K, SEED_RANGE, Sampling
from runner.errors import GrammarInvalid

MAX_REDRAWS = 32
_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])  # struct llama_token_data


@dataclass(frozen=True)
class Likelihood:
    """Natural logarithms of probabilities before any sampler."""

    chosen: float
    top: tuple[tuple[int, float], ...]


class Sampler:
    def __init__(self, model: Model, options: Sampling) -> None:
        self._lib, self._model, self._options = model.lib, model, options
        self._chain = self._lib.llama_sampler_chain_init(self._lib.llama_sampler_chain_default_params())
        self._grammar: Any = None
        for link in _links(model, options):
            self._lib.llama_sampler_chain_add(self._chain, link)
        if options.grammar:
            try:
                self._grammar = make_grammar(model, options.grammar)
            except GrammarInvalid:
                self.close()
                raise
            self._candidates = np.empty(model.size, _CANDIDATE)
            self._ids = np.arange(model.size, dtype=np.int32)
        self._trigger = Trigger(options.grammar_triggers, at_start=options.grammar_at_start)
        self._direct = options.greedy and not _penalises(options) and not options.grammar
        biases = _biases(model, options)
        self._biases = len(biases)
        self._biased = np.array([token for token, _ in biases], np.intp)
        self._bias = np.array([value for _, value in biases], np.float32)

    def sample(self, context: Context, index: int) -> tuple[int, Likelihood | None]:
        """The next token after output ``index`` of the last decode."""
        if self._direct and self._options.logprobs < 0:
            return self._likeliest(context, index), None
        likelihood = None
        if self._options.logprobs >= 0:
            logits = np.array(context.logits(index))
        if self._direct:
            token = self._likeliest(context, index)
        elif self._grammar is None:
            token = int(self._lib.llama_sampler_sample(self._chain, context.handle, index))
        elif self._trigger.sleeping:
            token = self._sample_until_trigger(context, index)
        else:
            token = self._sample_with_grammar(context, index)
        if self._options.logprobs >= 0:
            likelihood = _likelihood(logits, token, self._options.logprobs)
        return token, likelihood

    def close(self) -> None:
        for name in ("_chain", "_grammar"):
            handle = getattr(self, name, None)
            if handle:
                self._lib.llama_sampler_free(handle)
                setattr(self, name, None)

    def _likeliest(self, context: Context, index: int) -> int:
        """A search in place; the chain would first copy the whole vocabulary into a list of candidates."""
        logits = context.logits(index)
        if self._biases:
            logits[self._biased] += self._bias  # the library's own memory, which the next decode overwrites
        return int(logits.argmax())

    def _sample_until_trigger(self, context: Context, index: int) -> int:
        """Free text; a token that would run past the trigger into what the grammar rules is drawn again without it."""
        banned: list[int] = []
        while True:
            token = self._pick(context, index, constrained=False, banned=banned)
            if len(banned) >= MAX_REDRAWS or self._model.is_end(token):
                break
            if self._trigger.push(self._model.special_piece(token)):
                break
            banned.append(token)
        self._lib.llama_sampler_accept(self._chain, token)
        return token

    def _sample_with_grammar(self, context: Context, index: int) -> int:
        """Sample freely and keep a token that the grammar allows; only else pay for the grammar over all candidates."""
        token = self._pick(context, index, constrained=False)
        if not self._allowed(token):
            token = self._pick(context, index, constrained=True)
        self._lib.llama_sampler_accept(self._grammar, token)
        self._lib.llama_sampler_accept(self._chain, token)
        return token

    def _pick(self, context: Context, index: int, *, constrained: bool, banned: Sequence[int] = ()) -> int:
        self._candidates["id"] = self._ids
        self._candidates["logit"] = context.logits(index)
        self._candidates["p"] = 0
        for token in banned:
            self._candidates["logit"][token] = -np.inf
        array = self._array(self._candidates)
        if constrained:
            self._lib.llama_sampler_apply(self._grammar, ctypes.byref(array))
            if not np.isfinite(self._candidates["logit"]).any():
                raise GrammarInvalid("the grammar leaves no token to continue with", remedy="change the grammar")
        self._lib.llama_sampler_apply(self._chain, ctypes.byref(array))
        return int(array.data[array.selected].id)

    def _allowed(self, token: int) -> bool:
        one = np.array([(token, 1.0, 0.0)], _CANDIDATE)
        self._lib.llama_sampler_apply(self._grammar, ctypes.byref(self._array(one)))
        return bool(np.isfinite(one["logit"][0]))

    def _array(self, candidates: np.ndarray[Any, Any]) -> Any:
        array = self._lib.llama_token_data_array()
        array.data = ctypes.cast(candidates.ctypes.data, ctypes.POINTER(self._lib.llama_token_data))
        array.size, array.selected, array.sorted = len(candidates), -1, False
        return array


class Trigger:
    """Watches the output for a text after which the grammar holds.

    >>> t = Trigger(("<call>",))
    >>> t.push(b"so: <ca"), t.push(b"ll>\\n"), t.sleeping
    (True, True, False)
    """

    def __init__(self, triggers: tuple[str, ...], *, at_start: bool = False) -> None:
        self._triggers = tuple(t.encode() for t in triggers)
        self._at_start = at_start  # only white space may come before it
        self._keep = max((len(t) for t in self._triggers), default=0)
        self._tail = b""
        self.sleeping = bool(triggers)

    def push(self, piece: bytes) -> bool:
        """False: ``piece`` runs past the trigger with more than white space, and was not taken."""
        text = self._tail + piece
        for trigger in self._triggers:
            before, found, after = text.partition(trigger)
            if found and not (self._at_start and before.strip()):
                if after.strip():
                    return False
                self.sleeping = False
                return True
        self._tail = text if self._at_start and len(text) < 4096 else text[-self._keep :]
        return True


def make_grammar(model: Model, grammar: str) -> Any:
    handle = model.lib.llama_sampler_init_grammar(model.vocab, grammar.encode(), b"root")
    if not handle:
        raise GrammarInvalid("the grammar is not valid GBNF with a rule named root", remedy="correct the grammar")
    return handle


def _links(model: Model, options: Sampling) -> list[Any]:
    lib = model.lib
    links = []
    if bias := _biases(model, options):
        array = (lib.llama_logit_bias * len(bias))(*bias)
        links.append(lib.llama_sampler_init_logit_bias(model.size, len(bias), array))
    if _penalises(options):
        # Penalties search all candidates for each recent token; beyond the likeliest thousand they change nothing.
        links.append(lib.llama_sampler_init_top_k(MAX_TOP_K))
        links.append(
            lib.llama_sampler_init_penalties(
                model.size,
                options.penalty_window,
                options.repeat_penalty,
                options.frequency_penalty,
                options.presence_penalty,
            )
        )
    if options.greedy:
        return [*links, lib.llama_sampler_init_greedy()]
    seed = secrets.randbelow(SEED_RANGE) if options.seed is None else options.seed
    return [
        *links,
        lib.llama_sampler_init_top_k(options.top_k),
        lib.llama_sampler_init_top_p(options.top_p, 1),
        lib.llama_sampler_init_min_p(options.min_p, 1),
        lib.llama_sampler_init_temp(options.temperature),
        lib.llama_sampler_init_dist(seed),
    ]


def _biases(model: Model, options: Sampling) -> list[tuple[int, float]]:
    ends = dict.fromkeys(model.end_tokens if options.ignore_eos else (), -math.inf)
    return [(token, value) for token, value in {**dict(options.logit_bias), **ends}.items() if 0 <= token < model.size]


def _penalises(options: Sampling) -> bool:
    return options.repeat_penalty != 1 or options.frequency_penalty != 0 or options.presence_penalty != 0


def _likelihood(logits: np.ndarray[Any, Any], token: int, count: int) -> Likelihood:
    shifted = logits - logits.max()
    total = math.log(float(np.exp(shifted).sum()))
    best = np.argpartition(-shifted, count)[:count] if count else np.empty(0, int)
    best = best[np.argsort(-shifted[best], kind="stable")]
    return Likelihood(float(shifted[token]) - total, tuple((int(t), float(shifted[t]) - total) for t in best))
