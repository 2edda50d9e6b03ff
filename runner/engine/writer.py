"""The writer: the one thread that owns the context.  Admit, batch, decode, sample, tell; again.

When the memory is full it first forgets finished sequences, then decodes less at once, then sends the youngest
sequence back to the queue (its tokens are kept, its cells are not).  Only a sequence that cannot fit alone fails.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from harbourmaster.core.errors import HarbourError
from runner.engine.context import DECODED, NO_SLOT, Context
from runner.engine.embedding import Embedder
from runner.engine.limits import Counters, Limits
from runner.engine.model import Model
from runner.engine.pace import Pace
from runner.engine.pictures import Glance, glance
from runner.engine.pool import SlotPool, common_prefix, shares
from runner.engine.requests import (
    Ask,
    Cancel,
    Command,
    Embed,
    Event,
    Failed,
    Generate,
    Mailbox,
    Result,
    Stop,
    Token,
)
from runner.engine.sampling import Sampler
from runner.engine.sequence import Sequence
from runner.engine.shelf import Kept, Shelf
from runner.errors import EngineFailed

log = logging.getLogger(__name__)

LEAST_SHARE = 32  # tokens of a step that the oldest prompt gets before the shortest are favoured
FOLLOW = 8  # tokens: a prompt waits for another's prefill when at least this much more will then be shared
FETCH = 32  # tokens: a sequence is copied back into memory when it spares at least this much
PREFILL_WHILE_DECODING = 256  # tokens of a step when others are in mid-sentence, so that they do not stall
MAX_FAILURES = 3  # decodes in a row that fail before the process gives up and is replaced


class Writer:
    def __init__(
        self, model: Model, context: Context, embedder: Embedder, limits: Limits, tell: Callable[[list[Event]], None]
    ) -> None:
        self.mailbox = Mailbox()
        self.counters = Counters()
        self.pace = Pace()
        self._model, self._context, self._embedder, self._limits, self._tell = model, context, embedder, limits, tell
        self._pool = SlotPool(limits.slots, shares=model.facts.shares_prefixes)
        self._shelf = Shelf(limits.cells if model.facts.shares_prefixes else 0)
        self._waiting: list[Sequence] = []
        self._running: list[Sequence] = []  # in order of admission
        self._events: list[Event] = []
        self._most = limits.batch  # tokens of the next decode: halved when there is no slot, restored after
        self._failures = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    @property
    def kept_bytes(self) -> int:
        """What finished sequences hold beside the model's memory."""
        return self._shelf.bytes

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping:
            idle = not (self._running or self._waiting or self._embedder.busy)
            for command in self.mailbox.take(wait=idle):
                self._obey(command)
            self._step()
            if not self._running:
                self._hand_over()

    def _hand_over(self) -> None:
        """Tell what has happened: just before the library computes, when the thread that passes it on may run."""
        if self._events:
            events, self._events = self._events, []
            self._tell(events)

    def _obey(self, command: Command) -> None:
        if isinstance(command, Generate):
            limit = min(self._limits.context, self._limits.cells)
            self._waiting.append(Sequence(command, limit))
        elif isinstance(command, Cancel):
            self._cancel(command.id)
        elif isinstance(command, Embed):
            self._embedder.add(command)
        elif isinstance(command, Ask):
            self._events.append(Result(command.id, command.answer()))
        elif isinstance(command, Stop):
            self._stopping = True

    def _cancel(self, request_id: int) -> None:
        self._embedder.cancel(request_id)
        for sequence in [*self._running, *self._waiting]:
            if sequence.id == request_id:
                self.counters.cancelled += 1
                self._finish(sequence, "cancelled")

    # -- one step

    def _step(self) -> None:
        if self._waiting or self._embedder.busy or self._pool.moved:  # what these ask for may take long
            self._hand_over()
        self._events.extend(self._embedder.step())
        self._admit()
        if self._running and self._pool.moved:
            self._park(self._limits.idle)
            self._pool.moved = False
        if not self._running:
            return
        outputs = self._fill_ones() if self._all_speak() else self._fill() if self._look() else []
        self._hand_over()
        if not outputs:
            return  # all of them have come to a picture
        self.pace.begin(self._context.batch.count, time.monotonic())
        status = self._context.decode()
        self.counters.decode_s += self.pace.end(time.monotonic())
        if status == DECODED:
            self._failures, self._most = 0, self._limits.batch
            self._after(outputs)
        elif status == NO_SLOT:
            self._make_room()
        else:
            self._decode_failed(status)

    def _all_speak(self) -> bool:
        """Is every sequence in mid-sentence, so that each has one token to decode?"""
        for sequence in self._running:
            if sequence.count - sequence.done != 1 or sequence.pictured:
                return False
        return len(self._running) <= self._most

    def _look(self) -> bool:
        """Decode rows of pictures that sequences have come to, before this step's tokens; False: it did not work out."""
        glances = self._glances()
        if not glances:
            return True
        self._hand_over()
        self.pace.begin(sum(g.count for _, g in glances), time.monotonic())
        status = self._context.look([g for _, g in glances])
        self.counters.decode_s += self.pace.end(time.monotonic())
        if status == NO_SLOT:
            self._make_room()
        elif status != DECODED:
            self._decode_failed(status)
        for sequence, rows in glances if status == DECODED else ():
            self._advance(sequence, rows.count)
        return status == DECODED

    def _glances(self) -> list[tuple[Sequence, Glance]]:
        found: list[tuple[Sequence, Glance]] = []
        left = self._most
        for sequence in self._running:
            rows = glance(sequence.slot, sequence.request.prompt, sequence.done, left)
            if rows and not (found and not (rows.causal and found[0][1].causal)):  # what sees itself whole goes alone
                found.append((sequence, rows))
                left -= rows.count
        return found

    def _fill_ones(self) -> list[tuple[Sequence, int, int]]:
        """As ``_fill``, where ``_all_speak``."""
        running, batch = self._running, self._context.batch
        batch.clear()
        if self._guess():
            return [
                (s, 1, batch.add(s.slot, s.with_guesses(), s.done, output=True, all_outputs=True) - len(s.guesses))
                for s in running
            ]
        batch.add_ones([s.slot for s in running], [int(s.tokens[s.done]) for s in running], [s.done for s in running])
        return [(s, 1, index) for index, s in enumerate(running)]

    def _guess(self) -> bool:
        """Let each sequence guess what it says next, as far as there is room in a step; False: nobody does."""
        most = room = min(self._limits.speculative, self._most) - len(self._running)
        if room < 1:
            return False
        each = max(room // len(self._running), 1)
        for sequence in self._running:
            room -= sequence.guess(min(each, room))
        return room < most

    def _fill(self) -> list[tuple[Sequence, int, int]]:
        """Put this step's tokens into the batch: sequence, how many, index of the output (-1: none yet)."""
        decoding = any(s.remaining == 1 for s in self._running)
        prefilling = any(s.remaining > 1 for s in self._running)
        budget = self._most
        if prefilling:
            prompts = min(self._limits.prompts, PREFILL_WHILE_DECODING if decoding else budget)
            budget = min(budget, prompts + len(self._running))
        batch = self._context.batch
        batch.clear()
        outputs = []
        given = shares((s.ahead for s in self._running), budget, LEAST_SHARE, self._limits.enough)
        for sequence, count in zip(self._running, given, strict=True):
            if count:
                last = sequence.done + count == sequence.count
                tokens = sequence.tokens[sequence.done : sequence.done + count]
                index = batch.add(sequence.slot, tokens, sequence.position, output=last)
                outputs.append((sequence, count, index if last else -1))
        return outputs

    def _after(self, outputs: list[tuple[Sequence, int, int]]) -> None:
        self.counters.steps += 1
        started = time.perf_counter()
        for sequence, count, index in outputs:
            self._advance(sequence, count)
            if index >= 0:
                self._sample(sequence, index)
            if sequence.guesses:
                self._compare(sequence, index)
        self.counters.sample_s += time.perf_counter() - started

    def _compare(self, sequence: Sequence, index: int) -> None:
        """Go on while what was sampled is what was guessed; the rest of the guesses is forgotten."""
        guesses, sequence.guesses = sequence.guesses, []
        right = 0
        while right < len(guesses) and sequence.says(guesses[right]):
            right += 1
            self._advance(sequence, 1)
            self._sample(sequence, index + right)
        sequence.guesser.learn(len(guesses), right)
        self.counters.guessed += len(guesses)
        self.counters.guessed_right += right
        if right < len(guesses):
            self._context.forget(sequence.slot, sequence.done)

    def _advance(self, sequence: Sequence, count: int) -> None:
        slot = self._pool.slots[sequence.slot]
        if count == 1:
            slot.push(int(sequence.tokens[sequence.done]))
        else:
            slot.append(sequence.tokens[sequence.done : sequence.done + count])
        sequence.done += count
        self.counters.decoded += count

    def _sample(self, sequence: Sequence, index: int) -> None:
        assert sequence.sampler is not None
        try:
            token, likelihood = sequence.sampler.sample(self._context, index)
        except HarbourError as e:
            self._fail(sequence, e)
            return
        self.counters.generated += 1
        if self._model.is_end(token):
            self._finish(sequence, "stop")
            return
        sequence.push(token)
        self._events.append(Token(sequence.id, token, likelihood))
        if sequence.is_full():
            self._finish(sequence, "length")

    # -- admission

    def _admit(self) -> None:
        for sequence in list(self._waiting):
            if len(self._running) >= self._limits.running:
                return
            if self._follows(sequence):
                continue  # others behind it need not wait for that
            if not self._fits(sequence):
                return  # first come, first served: a small one does not overtake for ever
            self._waiting.remove(sequence)
            try:
                self._place(sequence)
            except HarbourError as e:
                sequence.close()
                self._events.append(Failed(sequence.id, e))

    def _follows(self, sequence: Sequence) -> bool:
        """Is another sequence about to compute a prefix that this one could share if it waited?"""
        if not self._model.facts.shares_prefixes or not any(r.remaining > 1 for r in self._running):
            return False
        _, now = self._pool.match(sequence.content)
        for other in self._running:
            if other.remaining > 1:
                later = min(common_prefix(other.content, sequence.content), sequence.count - 1)
                if later >= max(now, other.done) + FOLLOW:
                    return True
        return False

    def _fits(self, sequence: Sequence) -> bool:
        """Room for the prompt beside those that run (idle sequences make way), and a little to grow for each."""
        _, common = self._pool.match(sequence.content)
        need = sequence.count - common + LEAST_SHARE * (1 + len(self._running))
        return not self._running or self._pool.busy_charge + need <= self._limits.cells

    def _place(self, sequence: Sequence) -> None:
        if sequence.sampler is None:
            sequence.sampler = Sampler(self._model, sequence.request.generation.sampling)
        prompt = sequence.request.prompt
        self._fetch(sequence)
        placement = self._pool.place(sequence.content, prompt.whole)
        assert placement is not None  # there are more slots than may run
        for slot in placement.evicted:
            self._context.forget(slot)
            self.counters.evicted += 1
        if placement.source >= 0:
            self._context.forget(placement.slot)
            self._context.copy(placement.source, placement.slot, prompt.position(placement.kept))
        elif not self._context.forget(placement.slot, prompt.position(placement.kept)):
            self._context.forget(placement.slot)
            self._pool.truncate(self._pool.slots[placement.slot], 0)
        slot_state = self._pool.slots[placement.slot]
        self._pool.truncate(slot_state, min(placement.kept, slot_state.length))
        sequence.slot, sequence.done = placement.slot, slot_state.length
        if not sequence.admitted:
            sequence.admitted, sequence.cached = time.monotonic(), sequence.done
            self.counters.cached += sequence.done
        self._running.append(sequence)

    # -- finished sequences, between the memory and the shelf

    def _park(self, most: int) -> None:
        """Copy the longest unused out, until ``most`` idle cells are left."""
        while self._pool.idle_charge > most and (idle := self._pool.oldest_idle()):
            tokens = idle.content.copy()
            state = self._context.save(idle.id) if self._shelf.fits(len(tokens)) else None
            if state is not None:
                self._shelf.put(Kept(tokens, state))
                self.counters.parked += 1
            else:
                self.counters.evicted += 1
            self._forget(idle.id)

    def _fetch(self, sequence: Sequence) -> None:
        """Copy back what ``sequence`` begins with, where that is more than the memory has."""
        kept, common = self._shelf.match(sequence.content)
        prompt = sequence.request.prompt
        common = prompt.whole(common)
        if kept is None or common < self._pool.match(sequence.content)[1] + FETCH:
            return
        self._park(max(self._limits.cells - self._pool.busy_charge - len(kept.tokens), 0))
        placement = self._pool.adopt(kept.tokens[:common])
        if placement is None:
            return
        for slot in (*placement.evicted, placement.slot):
            self._context.forget(slot)
        if self._context.restore(placement.slot, kept.state):
            self._context.forget(placement.slot, prompt.position(common))
            self._shelf.take(kept, common)
            self.counters.fetched += 1
        else:
            self._forget(placement.slot)

    def _finish(self, sequence: Sequence, reason: str) -> None:
        if sequence in self._running:
            self._running.remove(sequence)
            self._pool.release(sequence.slot)
        else:
            self._waiting.remove(sequence)
        sequence.close()
        self._events.append(sequence.finished(reason))

    def _fail(self, sequence: Sequence, error: Exception) -> None:
        self._running.remove(sequence)
        self._pool.release(sequence.slot)
        sequence.close()
        self._events.append(Failed(sequence.id, error))

    # -- when the memory is full, or a decode fails

    def _make_room(self) -> None:
        self.counters.no_slot += 1
        for sequence in self._running:
            sequence.guesses = []  # were not computed, and the next step may be another
        idle = self._pool.oldest_idle()
        if idle:
            self._forget(idle.id)
            self.counters.evicted += 1
            return
        least = len(self._running)
        if self._context.batch.count > least and self._most > least:
            self._most = max(self._most // 2, least)
            return
        if len(self._running) > 1:
            self._preempt(self._running[-1])
            return
        only = self._running.pop()
        self._forget(only.slot)
        only.close()
        self._events.append(
            Failed(
                only.id,
                EngineFailed(
                    f"the sequence of {only.count} tokens does not fit in the memory of {self._limits.cells}",
                    remedy="load the model with a larger context",
                ),
            )
        )

    def _preempt(self, sequence: Sequence) -> None:
        self.counters.preempted += 1
        sequence.preempted += 1
        self._running.remove(sequence)
        self._forget(sequence.slot)
        sequence.slot, sequence.done = -1, 0
        self._waiting.insert(0, sequence)
        self._most = self._limits.batch

    def _forget(self, slot: int) -> None:
        self._context.forget(slot)
        self._pool.drop(slot)

    def _decode_failed(self, status: int) -> None:
        """Only those in the batch fail; what else is in memory stays as it is."""
        self._failures += 1
        log.error("llama_decode returned %d", status)
        for sequence in list(self._running):
            self._running.remove(sequence)
            self._forget(sequence.slot)
            sequence.close()
            error = EngineFailed(f"llama.cpp could not compute this step (status {status})", remedy="try again")
            self._events.append(Failed(sequence.id, error))
        if self._failures >= MAX_FAILURES:
            self._stopping = True

    def snapshot(self) -> dict[str, Any]:
        """For ``Ask``: runs on the writer thread."""
        return {
            "running": len(self._running),
            "waiting": len(self._waiting),
            "cells": self._limits.cells,
            "cells_used": self._pool.charged,
            "kept_bytes": self.kept_bytes,
            "sequences_kept": sum(1 for s in self._pool.slots if s.length and not s.busy),
            **{name: round(value, 6) for name, value in vars(self.counters).items()},
        }
