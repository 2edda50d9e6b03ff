"""Learn, propose, try what is proposed, and only then show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harbourmaster.core.secrets import Delivery
from harbourmaster.learn.trial import Ask, Outcome, Stage, run, writable_root
from registry.entry import Entry
from registry.listing import sandbox_spec
from registry.schema import parse_entry
from sandbox.access import can_be_a_place
from sandbox.egress.rules import Rules
from sandbox.learn.outlet import Learning
from sandbox.learn.proposal import Findings, Proposal, patch, patched, propose
from sandbox.spec import SandboxSpec

# A run has room, so that what it needs shows; an entry that asks for more keeps that
ROOM = {"memory_mb": 2048, "pids": 512, "tmp_mb": 256, "file_mb": 256}
TRIES = 3  # of a proposal, each with twice the memory and processes of the one before


@dataclass(frozen=True)
class Subject:
    """The server that is learnt: its entry as read and as text, the image that was admitted, and its secrets."""

    entry: Entry
    path: Path
    text: str
    image_id: str
    image: str
    secrets: Delivery

    def spec(self, entry: Entry) -> SandboxSpec:
        return sandbox_spec(entry, self.image_id, self.image, secrets=self.secrets)


@dataclass(frozen=True)
class Learnt:
    """``differs``: calls that another answer than in the learning run came to, under the proposal; none is what is wanted."""

    outcome: Outcome
    proposal: Proposal
    before: str
    after: str
    patch: str
    differs: tuple[str, ...]


async def learn(
    stage: Stage, subject: Subject, asks: Sequence[Ask], learning: Learning, *, drop_unused: bool = False
) -> Learnt:
    """Raises ``LearnFailed``, ``EntryInvalid`` and what starting a sandbox raises.  Changes nothing."""
    spec = subject.spec(subject.entry)
    room = {name: max(value, spec.limits.get(name, 0)) for name, value in ROOM.items()}
    roomy = replace(spec, limits={**spec.limits, **room})
    outcome = await run(stage, writable_root(stage.profile), roomy, learning, Rules(()), asks)
    network = subject.entry.run.network.model_dump()
    proposal = propose(findings(outcome, len(asks)), network, drop_unused=drop_unused)
    for attempt in range(TRIES):
        after = patched(subject.text, proposal)
        differs = await _try(stage, subject, after, learning, asks, outcome)
        if not differs or attempt == TRIES - 1:
            break
        proposal = proposal.larger()
    return Learnt(outcome, proposal, subject.text, after, patch(str(subject.path), subject.text, after), differs)


def findings(outcome: Outcome, calls: int) -> Findings:
    private = tuple(text for text in outcome.wanted if text in outcome.seen.private)
    writable = tuple(filter(can_be_a_place, sorted(outcome.use.written | outcome.use.refused)))
    return Findings(outcome.wanted, private, writable, outcome.use.memory_mb, outcome.use.pids, calls)


async def _try(
    stage: Stage, subject: Subject, after: str, learning: Learning, asks: Sequence[Ask], before: Outcome
) -> tuple[str, ...]:
    """The same calls in the sandbox that the proposal makes, with its rules in force."""
    entry = parse_entry(subject.path, after.encode())
    rules = Rules.parse(entry.run.network.model_dump())
    tried = await run(
        stage, stage.profile, subject.spec(entry), replace(learning, open=False, record=False), rules, asks
    )
    pairs = zip(before.answers, tried.answers, strict=True)
    return tuple(f"{was.tool}: {now.text[:200]}" for was, now in pairs if was.is_error != now.is_error)
