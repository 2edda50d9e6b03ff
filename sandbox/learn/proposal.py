"""From what a run used to the least profile, and to a patch of the entry.  Pure."""

from __future__ import annotations

import difflib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from sandbox.egress.rules import parse_rule

ROOM = 1.5  # times the peak: a longer call holds more than a test's
MEMORY_STEP, LEAST_MEMORY = 32, 64
LEAST_PIDS = 16  # a runtime that starts one helper process, with its threads


@dataclass(frozen=True)
class Findings:
    """``hosts``: ``host:port`` that were connected to; ``private``: those of them with a private address."""

    hosts: tuple[str, ...]
    private: tuple[str, ...]
    writable: tuple[str, ...]
    memory_mb: float
    pids: int
    calls: int


@dataclass(frozen=True)
class Proposal:
    """``unused``: rules of the entry that the run had no use for; they stay unless a person drops them."""

    hosts: tuple[str, ...]
    private: tuple[str, ...]
    writable: tuple[str, ...]
    memory_mb: int
    pids: int
    unused: tuple[str, ...]
    reason: str

    def larger(self) -> Proposal:
        """Room for what the readings missed."""
        return replace(self, memory_mb=self.memory_mb * 2, pids=self.pids * 2)


def propose(findings: Findings, listed: Mapping[str, Sequence[str]], *, drop_unused: bool = False) -> Proposal:
    """``listed``: the entry's ``run.network``.  Nothing that was wanted is left out."""
    rules = [parse_rule(text) for text in listed.get("hosts", ())]
    wanted = [parse_rule(text) for text in findings.hosts]
    unused = tuple(r.text for r in rules if not any(r.covers(w.host, w.port) for w in wanted))
    new = [w.text for w in wanted if not any(r.covers(w.host, w.port) for r in rules)]
    kept = [r.text for r in rules if not (drop_unused and r.text in unused)]
    hosts = tuple(dict.fromkeys([*kept, *new]))
    private = dict.fromkeys([*listed.get("private", ()), *findings.private])
    return Proposal(
        hosts,
        tuple(text for text in private if text in hosts),
        outermost(findings.writable),
        max(LEAST_MEMORY, math.ceil(findings.memory_mb * ROOM / MEMORY_STEP) * MEMORY_STEP),
        max(LEAST_PIDS, math.ceil(findings.pids * ROOM)),
        unused,
        f"learnt from {findings.calls} call{'s' if findings.calls != 1 else ''}: at most {findings.memory_mb:.0f} MB "
        f"and {findings.pids} processes and threads",
    )


def outermost(paths: Sequence[str]) -> tuple[str, ...]:
    """Without those that lie below another one."""
    kept: list[str] = []
    for path in sorted(set(paths)):
        if not any(path.startswith(f"{above}/") for above in kept):
            kept.append(path)
    return tuple(kept)


def patched(text: str, proposal: Proposal) -> str:
    """The entry's text with the proposal in it; comments, order and quotes as they were."""
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.preserve_quotes, yaml.width = True, 1_000_000
    document = yaml.load(text)
    run = document["run"]
    if proposal.hosts or "network" in run:
        network = _part(run, "network")
        _set_list(network, "hosts", proposal.hosts)
        _set_list(network, "private", proposal.private)
        if not network:
            del run["network"]
    sandbox = _part(run, "sandbox")
    for name in ("memory_mb", "pids"):
        sandbox[name] = _flow({"value": getattr(proposal, name), "reason": proposal.reason})
    known = [
        *((sandbox.get("writable") or {}).get("value") or ()),
        *((sandbox.get("volumes") or {}).get("value") or ()),
    ]
    if new := [path for path in proposal.writable if path not in known]:
        if sandbox.get("writable"):
            sandbox["writable"]["value"].extend(new)
        else:
            sandbox["writable"] = _flow({"value": _list(new), "reason": "written to in the learning run"})
    out = io.StringIO()
    yaml.dump(document, out)
    return out.getvalue()


def patch(path: str, before: str, after: str) -> str:
    """A unified diff, as ``patch -p0`` takes it; empty where nothing changes."""
    lines = difflib.unified_diff(before.splitlines(keepends=True), after.splitlines(keepends=True), path, path)
    return "".join(lines)


def _part(parent: Any, name: str) -> Any:
    """A mapping of ``parent``, made at its end where it is missing."""
    if parent.get(name) is None:
        parent[name] = CommentedMap()
    return parent[name]


def _set_list(parent: Any, name: str, values: Sequence[str]) -> None:
    """Leaves a list as it is written where it says the same already."""
    if list(parent.get(name) or ()) == list(values):
        return
    if not values:
        parent.pop(name, None)
        return
    parent[name] = _list(values)


def _list(values: Sequence[str]) -> CommentedSeq:
    found = CommentedSeq(DoubleQuotedScalarString(value) for value in values)
    found.fa.set_flow_style()
    return found


def _flow(values: Mapping[str, Any]) -> CommentedMap:
    found = CommentedMap(values)
    found.fa.set_flow_style()
    return found
