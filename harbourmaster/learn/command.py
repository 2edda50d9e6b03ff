"""``hm sandbox learn`` on an installation: the admitted image, the admitted relay, the audit; and what people see of it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.cli_arguments import arguments
from gateway.lock import read_lock
from harbourmaster.compose import LiveAdmitter
from harbourmaster.core.audit import AuditLog
from harbourmaster.core.files import write_atomic
from harbourmaster.core.program import as_typed
from harbourmaster.core.redaction import IN_USE
from harbourmaster.core.secrets import SecretStore
from harbourmaster.core.settings import Settings
from harbourmaster.learn.learning import Learnt, Subject, learn
from harbourmaster.learn.trial import Ask, Stage
from harbourmaster.up.host import ask
from registry.build.ours import RELAY
from registry.entry import ENTRY_FILE, Entry
from registry.places import entry_folder
from registry.schema import load_entry
from registry.toolset import is_toolset
from registry.trial import own_secrets
from sandbox.engine import Engine
from sandbox.learn.authority import Authority
from sandbox.learn.errors import LearnFailed
from sandbox.learn.outlet import PORTS, Learning
from sandbox.learn.recording import Recording
from sandbox.profile import Profile
from sandbox.text import visible


@dataclass(frozen=True)
class Wishes:
    """The command line, as it was typed."""

    name: str
    words: Sequence[str]
    simulate: Path | None
    record: Path | None
    private: bool
    ports: tuple[int, ...]
    drop_unused: bool
    root: Path | None
    yes: bool
    as_json: bool


def learn_now(settings: Settings, wishes: Wishes) -> None:
    """Raises ``LearnFailed`` and what reading, admitting and starting raise; then the entry is as it was."""
    path = (wishes.root / wishes.name if wishes.root else entry_folder(settings, wishes.name)) / ENTRY_FILE
    entry = load_entry(path.parent)
    if is_toolset(entry):
        raise LearnFailed(f"{entry.name} runs a program for each call, which is not learnt from", remedy="try: hm call")
    asks = calls(settings, entry, wishes.words)
    learning = learning_of(wishes)
    audit = AuditLog(settings.audit_dir)
    engine = Engine.connect(settings)
    try:
        admit = LiveAdmitter(settings, engine, audit).admit
        admitted = admit(wishes.name)
        secrets = own_secrets(entry, SecretStore.of(settings))
        subject = Subject(entry, path, path.read_text(), admitted.image_id, admitted.image, secrets)
        stage = Stage(
            engine,
            Profile.load(),
            lambda: admit(RELAY).image_id,
            audit.append,
            settings.run_dir / "learn",
            settings.call_timeout_s,
        )
        learnt = asyncio.run(learn(stage, subject, asks, learning, drop_unused=wishes.drop_unused))
    finally:
        engine.close()
        audit.close()
    if wishes.record is not None:
        # A key that went out in an address must not lie in a file that people share
        written = IN_USE.redact(learnt.outcome.seen.recording.dump().decode())
        write_atomic(wishes.record, written.encode(), mode=0o600)
    _tell(learnt, as_json=wishes.as_json)
    if apply(path, learnt, yes=wishes.yes):
        sys.stderr.write(as_typed(f"{path} is changed; have it served like this: hm lock update {wishes.name}\n"))


def learning_of(wishes: Wishes) -> Learning:
    simulate = Recording.parse(wishes.simulate.read_bytes()) if wishes.simulate is not None else None
    between = simulate is not None or wishes.record is not None
    ports = tuple(dict.fromkeys([*wishes.ports, *PORTS]))
    authority = Authority() if between else None
    return Learning(True, wishes.private, ports, simulate, simulate is None and wishes.record is not None, authority)


def calls(settings: Settings, entry: Entry, words: Sequence[str]) -> list[Ask]:
    """``TOOL key=value ... TOOL ...``; none: what the entry's own tests ask.  Raises ``ArgumentsInvalid``."""
    if not words:
        return [Ask(call.tool, call.arguments) for call in (entry.test.calls if entry.test else ())]
    locked = read_lock(settings.lock_file).get(entry.name)
    schemas = {
        tool["name"]: tool.get("inputSchema") or {} for tool in (locked.listing.get("tools", ()) if locked else ())
    }
    groups: list[list[str]] = []
    for word in words:
        if "=" in word and groups:
            groups[-1].append(word)
        else:
            groups.append([word])
    return [Ask(tool, arguments(tool, schemas.get(tool, {}), rest)) for tool, *rest in groups]


def apply(path: Path, learnt: Learnt, *, yes: bool) -> bool:
    """Put the proposal into the entry after a yes; whether it did.  Raises ``LearnFailed`` where that would not hold."""
    if not learnt.patch:
        sys.stderr.write("the entry says already what the run needed\n")
        return False
    if learnt.differs:
        raise LearnFailed(
            f"under what is proposed, calls end otherwise: {'; '.join(map(visible, learnt.differs))}",
            remedy="nothing was changed; see its answers, and raise what it lacks by hand",
        )
    if not ask(f"put this into {path}?", yes=yes):
        sys.stderr.write("nothing was changed; agree with --yes\n")
        return False
    if path.read_text() != learnt.before:
        raise LearnFailed(f"{path} was changed meanwhile", remedy="learn again")
    write_atomic(path, learnt.after.encode(), mode=path.stat().st_mode & 0o777)
    return True


def _tell(learnt: Learnt, *, as_json: bool) -> None:
    outcome, proposal = learnt.outcome, learnt.proposal
    if as_json:
        body = {
            "answers": [{"tool": a.tool, "is_error": a.is_error, "text": a.text[:500]} for a in outcome.answers],
            "hosts": list(outcome.wanted),
            "asked": sorted(outcome.seen.asked),
            "problems": outcome.seen.problems,
            "written": sorted(outcome.use.written | outcome.use.refused),
            "memory_mb": round(outcome.use.memory_mb, 1),
            "pids": outcome.use.pids,
            "unused": list(proposal.unused),
            "holds": not learnt.differs,
            "patch": learnt.patch,
        }
        print(IN_USE.redact(json.dumps(body, indent=2, ensure_ascii=False)))
        return
    for line in report(learnt):
        sys.stderr.write(visible(IN_USE.redact(line)) + "\n")
    sys.stdout.write(learnt.patch)
    sys.stdout.flush()


def report(learnt: Learnt) -> list[str]:
    outcome, proposal = learnt.outcome, learnt.proposal
    lines = [
        f"{a.tool}: {'error' if a.is_error else 'answered'}: {' '.join(a.text.split())[:100]}" for a in outcome.answers
    ]
    lines += [f"it connected to {text}{_problem(learnt, text)}" for text in outcome.wanted]
    connected = {text.rpartition(":")[0] for text in outcome.wanted}
    lines += [
        f"it asked for {name} and connected to no port listened on" for name in sorted(outcome.seen.asked - connected)
    ]
    lines += [f"it wrote below {path}" for path in sorted(outcome.use.written)]
    lines += [f"it could not write below {path}" for path in sorted(outcome.use.refused)]
    lines += [f"at most {outcome.use.memory_mb:.0f} MB of memory, {outcome.use.pids} processes and threads"]
    lines += [f"the entry lists {text}, and the run had no use for it" for text in proposal.unused]
    lines += [f"under the proposal it ends otherwise: {text}" for text in learnt.differs]
    return lines if learnt.differs else [*lines, "under the proposal, every call ends as it did"]


def _problem(learnt: Learnt, text: str) -> str:
    problem = learnt.outcome.seen.problems.get(text, "")
    return f" ({problem})" if problem else ""
