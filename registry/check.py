"""Everything that a pull request with an entry needs, check by check; each ends in a verdict, none stops the others' report.

A check that could not be made is no pass: it says so, and for what a submission must show it fails.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harbourmaster.core.errors import HarbourError
from harbourmaster.core.settings import Settings
from policies.policy_set import PolicySet
from policies.trust import TrustPolicy
from registry import differences
from registry.build.bases import Progress, silent
from registry.entry import ENTRY_FILE, Entry
from registry.entry_checks import LONG_TOOL_TEXT, speaks_to_models
from registry.entry_file import hidden_characters
from registry.known import NOBODY_KNOWS, Examine, judged
from registry.lint import lint
from registry.lookup.check import confirm
from registry.oci.layout import OciLayout
from registry.oneshot import listing_of_tools
from registry.pipeline import BuildResult, build_all
from registry.report import EntryReport, Verdict, Word
from registry.schema import parse_entry
from registry.target import asked, target_of_entry
from registry.toolset import is_toolset, targets
from registry.trial import try_calls
from registry.verify import Checked, Verifier
from sandbox.engine import Engine
from sandbox.profile import Profile

COPYLEFT_FREE = ("AGPL", "SSPL", "BUSL", "Commons-Clause")  # what running as a service may oblige or forbid: for people

Step = Callable[[], list[Verdict]]


@dataclass(frozen=True)
class Checker:
    """``engine`` None: nothing is built, and all that needs an image is not checked.  ``online`` False: no look-ups.
    ``examine`` None: no advisories to compare with."""

    settings: Settings
    engine: Engine | None
    profile: Profile
    online: bool = True
    progress: Progress = silent
    examine: Examine | None = None

    def check(self, folder: Path, before: bytes | None = None) -> EntryReport:
        """``before``: the file as it was, for what changes; None for a new entry."""
        report = EntryReport(folder.name)
        found = lint(folder, self.profile)
        report.verdicts += [Verdict("form", "fail", f"{p.message} ({p.remedy})") for p in found.problems]
        report.verdicts += [Verdict("form", "warn", f"{a} ({a.remedy})") for a in found.advice]
        if not report.verdicts:
            report.verdicts.append(Verdict("form", "pass", "every key, text and file is as the schema says"))
        if found.entry is None or found.problems:
            return report
        entry = found.entry
        old = _parsed(folder, before)
        report.sections["What it may touch"] = differences.permissions(old, entry)
        report.verdicts += [*self._guarded("source", lambda: self._source(entry)), *_licence(entry), *_tier(old, entry)]
        if entry.type != "remote":
            self._image(entry, folder, report)
        return report

    def _source(self, entry: Entry) -> list[Verdict]:
        if not self.online:
            return [Verdict("source", "skip", "look-ups are switched off")]
        confirmed = confirm(entry)
        said = Verdict("source", "pass", confirmed.what)
        return [said, *(Verdict("source", "warn", note) for note in confirmed.notes)]

    def _image(self, entry: Entry, folder: Path, report: EntryReport) -> None:
        if self.engine is None:
            report.verdicts.append(Verdict("build", "skip", "no container engine was asked for"))
            return
        result = build_all(self.settings, self.engine, [entry], self.progress, root=folder.parent)[entry.name]
        if result.error:
            report.verdicts.append(_failed("build", result.error))
            return
        word = "built" if entry.tier == "built" else "pulled and looked into"
        report.verdicts.append(Verdict("build", "pass", f"{word}: {result.manifest}"))
        engine = self.engine
        report.verdicts += self._guarded("admission", lambda: self._admission(entry, engine, report))
        report.verdicts += self._guarded("calls", lambda: self._calls(entry, engine, result))

    def _admission(self, entry: Entry, engine: Engine, report: EntryReport) -> list[Verdict]:
        """As this installation's own policies see it, relaxations taken as agreed to: people agree to them in the review."""
        layout = OciLayout(self.settings.oci_dir)
        verifier = Verifier(layout, engine, TrustPolicy.load(self.settings), PolicySet.load(self.settings))
        agreed = asked(entry)
        wanted = targets(entry, approved=agreed) if is_toolset(entry) else [target_of_entry(entry, approved=agreed)]
        verdicts = []
        listing = listing_of_tools(entry) if is_toolset(entry) else None
        sboms: list[dict[str, Any]] = []
        for target in wanted:
            checked = verifier.check(target, deep=True)
            verdicts += [Verdict("admission", "pass", checked.verdict.summary), _papers(checked)]
            sboms += [checked.evidence.sbom.predicate] if checked.evidence.sbom else []
            if checked.evidence.listing is not None:
                listing = checked.evidence.listing.predicate
        if listing is not None:
            report.sections["Tools"] = differences.tools(None, listing)
            verdicts += judged_tools(entry, listing)
        return [*verdicts, *self._vulnerabilities(entry, sboms, report)]

    def _vulnerabilities(self, entry: Entry, sboms: list[dict[str, Any]], report: EntryReport) -> list[Verdict]:
        if self.examine is None:
            return [Verdict("vulnerabilities", "skip", NOBODY_KNOWS)]
        every = {"components": [component for sbom in sboms for component in sbom.get("components", [])]}
        verdicts, lines = judged(self.examine(every), entry.not_affected)
        if lines:
            report.sections["Known vulnerabilities"] = lines
        return verdicts

    def _calls(self, entry: Entry, engine: Engine, result: BuildResult) -> list[Verdict]:
        if entry.test is None:
            return [Verdict("calls", "warn", "the entry promises no call, so nobody saw it work")]
        timeout = self.settings.call_timeout_s
        place = (engine, entry, result.image_id, result.manifest)
        outcomes = try_calls(*place, timeout_s=timeout, parts=result.parts)
        failures = [f"{o.tool}: {o.problem}" for o in outcomes if not o.passed]
        if failures:
            return [Verdict("calls", "fail", "; ".join(failures))]
        return [Verdict("calls", "pass", f"{len(outcomes)} calls answered as promised, without a network")]

    def _guarded(self, name: str, step: Step) -> list[Verdict]:
        try:
            return step()
        except HarbourError as e:
            return [_failed(name, e)]


def judged_tools(entry: Entry, listing: dict[str, Any]) -> list[Verdict]:
    """What the server's own words for its tools deserve; ``entry.tools`` is what it was recorded to offer."""
    found: list[Verdict] = []
    offered = [t for t in listing.get("tools", []) if isinstance(t, dict)]
    for tool in offered:
        name, text = str(tool.get("name")), str(tool.get("description", ""))
        if hidden := [c for c in hidden_characters(text + name) if c not in ("U+0009", "U+000D")]:
            found.append(Verdict("tools", "fail", f"{name} says something that nobody sees ({hidden[0]})"))
        if speaks_to_models(text):
            found.append(Verdict("tools", "warn", f"{name} gives orders to a model instead of describing itself"))
        if len(text) > LONG_TOOL_TEXT:
            found.append(Verdict("tools", "warn", f"{name} is described in {len(text)} characters"))
    recorded, names = {t.name for t in entry.tools}, {str(t.get("name")) for t in offered}
    if recorded and recorded != names:
        parts = [("it lacks", sorted(recorded - names)), ("it also has", sorted(names - recorded))]
        detail = "; ".join(f"{word} {', '.join(some)}" for word, some in parts if some)
        found.append(Verdict("tools", "fail", f"it offers something else than was recorded: {detail}"))
    if not offered:
        found.append(Verdict("tools", "warn", "it offers no tools"))
    return found or [Verdict("tools", "pass", f"{len(offered)}: {', '.join(sorted(names))}")]


def _papers(checked: Checked) -> Verdict:
    evidence = checked.evidence
    there = [word for word in ("sbom", "provenance", "listing") if getattr(evidence, word) is not None]
    count = len(evidence.sbom.predicate.get("components", [])) if evidence.sbom else 0
    return Verdict("papers", "pass", f"{', '.join(there)}; {count} components; read again from the layers: the same")


def _licence(entry: Entry) -> list[Verdict]:
    if not entry.licence or entry.licence == "NOASSERTION":
        word: Word = "fail" if entry.tier == "built" else "warn"
        return [Verdict("licence", word, "none is named: write source.licence as an SPDX identifier")]
    if any(family.lower() in entry.licence.lower() for family in COPYLEFT_FREE):
        return [Verdict("licence", "warn", f"{entry.licence}: a person decides whether it may be offered as a service")]
    return [Verdict("licence", "pass", entry.licence)]


def _tier(old: Entry | None, entry: Entry) -> list[Verdict]:
    if old is not None and old.tier != entry.tier:
        return [
            Verdict("tier", "warn", f"moves from {old.tier} to {entry.tier}: every check of {entry.tier} was made anew")
        ]
    return [Verdict("tier", "pass", entry.tier)]


def _parsed(folder: Path, before: bytes | None) -> Entry | None:
    if before is None:
        return None
    try:
        return parse_entry(folder / ENTRY_FILE, before)
    except HarbourError:
        return None  # what stood there could not be read either: then all of it is new


def _failed(name: str, error: HarbourError) -> Verdict:
    return Verdict(name, "fail", f"[{error.code}] {error.message} ({error.remedy})")
