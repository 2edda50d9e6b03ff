"""One run of a server behind a broker that notes what it wants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from registry.build.errors import ListingFailed
from registry.session import RpcError, Session, open_session
from registry.trial import text_of
from sandbox.egress.egress import Egress, Network
from sandbox.egress.resolver import Look
from sandbox.egress.rules import Rules
from sandbox.engine import Engine
from sandbox.learn.authority import FILE, environment
from sandbox.learn.errors import LearnFailed
from sandbox.learn.outlet import Learning, LearningBroker, Seen
from sandbox.learn.watching import Use, Watch, refused
from sandbox.profile import Profile
from sandbox.secretfiles import PLACE
from sandbox.spec import SandboxSpec

ROOT = "HostConfig.ReadonlyRootfs"


@dataclass(frozen=True)
class Ask:
    """One tool call of the run."""

    tool: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    tool: str
    is_error: bool
    text: str


@dataclass(frozen=True)
class Outcome:
    """``wanted``: ``host:port`` that it connected to, or tried to."""

    answers: tuple[Answer, ...]
    use: Use
    seen: Seen
    wanted: tuple[str, ...]


@dataclass(frozen=True)
class Stage:
    """What runs need of the installation.  ``relay``: the admitted relay's image ID, blocking."""

    engine: Engine
    profile: Profile
    relay: Callable[[], str]
    record: Callable[[dict[str, Any]], None]
    sockets: Path
    timeout_s: float
    look: Look | None = None


def writable_root(profile: Profile) -> Profile:
    """The same but for one thing: what a server writes is noted rather than refused, and goes with the sandbox."""
    settings = tuple(replace(s, value=False) if s.path == ROOT else s for s in profile.settings)
    return replace(profile, name=f"{profile.name} (learning)", settings=settings)


def trusting(spec: SandboxSpec, learning: Learning) -> SandboxSpec:
    """``spec``, told to trust the authority that answers in its hosts' place, where one does."""
    if learning.authority is None:
        return spec
    files = {**spec.secret_files, FILE: learning.authority.pem}
    return replace(spec, env={**environment(PLACE), **spec.env}, secret_files=files)


async def run(
    stage: Stage, profile: Profile, spec: SandboxSpec, learning: Learning, rules: Rules, asks: Sequence[Ask]
) -> Outcome:
    """Raises ``LearnFailed`` when the server ends or hangs, and what starting it raises; nothing is left either way."""
    broker = LearningBroker(stage.sockets, stage.record, learning, stage.look)
    egress = Egress(stage.engine, stage.profile, broker, stage.relay, spares=0)
    place = Network(egress)
    try:
        if learning.open or rules:
            await place.open(spec.server, rules)
        use, answers = await _converse(stage, profile, place.join(trusting(spec, learning)), asks)
        wanted = [text for text, usage in broker.usage.items() if usage.connections or usage.denied]
    except ListingFailed as e:
        raise LearnFailed(f"the run of {spec.server} came to no end: {e.message}", remedy=e.remedy) from e
    finally:
        place.release()
        await egress.close()
    return Outcome(tuple(answers), use, broker.seen, tuple(wanted))


async def _converse(stage: Stage, profile: Profile, spec: SandboxSpec, asks: Sequence[Ask]) -> tuple[Use, list[Answer]]:
    async with open_session(stage.engine, profile, spec, timeout_s=stage.timeout_s) as session:
        async with Watch(stage.engine, session.box.id) as watch:
            await session.request("tools/list", {})
            answers = [await _ask(session, ask) for ask in asks]
        said = "\n".join([session.box.stderr_tail(), *(a.text for a in answers if a.is_error)])
        watch.use.refused |= refused(said)
    return watch.use, answers


async def _ask(session: Session, ask: Ask) -> Answer:
    try:
        result = await session.request("tools/call", {"name": ask.tool, "arguments": dict(ask.arguments)})
    except RpcError as e:
        return Answer(ask.tool, True, e.message)
    return Answer(ask.tool, bool(result.get("isError")), text_of(result))
