"""``hm registry update``: newer pins for an entry, with what they change in tools, packages and permissions.

The proposal is built beside what is there: the entry's files, its image and its papers stay as they are until it is taken.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harbourmaster.core.files import write_atomic
from harbourmaster.core.settings import Settings
from policies.policy_set import PolicySet
from policies.statements import LISTING, SBOM
from policies.trust import TrustPolicy
from registry import differences
from registry.attached import Attached
from registry.build.bases import Progress, silent
from registry.build.gitsource import newest_commit
from registry.build.records import BuildRecords
from registry.entry import ENTRY_FILE, Entry
from registry.entry_file import Path_, parse_document
from registry.locker import lock
from registry.lookup import npm, pypi
from registry.oci.layout import OciLayout
from registry.oci.reference import Reference
from registry.oci.remote import Remote
from registry.oneshot import listing_of_tools
from registry.pipeline import build_all
from registry.schema import load_entry, parse_entry
from registry.target import target_of_entry
from registry.toolset import containers, is_toolset, parts
from registry.verify import Verifier
from sandbox.engine import Engine

Pins = dict[str, str]  # key below `source`, `image`, or a tool's name behind `tools/` -> its new value


TOOLS = "tools/"


@dataclass
class Proposal:
    """``files``: what the folder's files would be; empty when there is nothing newer.  ``changes``: heading -> lines."""

    name: str
    now: str
    then: str
    files: dict[str, bytes] = field(default_factory=dict)
    changes: dict[str, list[str]] = field(default_factory=dict)

    @property
    def newer(self) -> bool:
        return bool(self.files)

    def take(self, folder: Path) -> None:
        for name, data in self.files.items():
            write_atomic(folder / name, data)


def newest_pins(entry: Entry) -> Pins:
    """What the entry's publisher serves now, where it differs.  Raises what a look-up raises."""
    if entry.tier == "community":
        return _image_pins(entry)
    source, _ = entry.recipe()
    if source.kind == "git":
        found: dict[str, Any] = {"commit": newest_commit(str(source.repository))}
    else:
        found = (pypi if source.kind == "pypi" else npm).look_up(source.package).source
    keys = {"pypi": ("version", "sha256"), "npm": ("version", "integrity"), "git": ("commit",)}[source.kind]
    pins = {key: str(found[key]) for key in keys}
    return pins if any(getattr(source, key) != value for key, value in pins.items()) else {}


def _image_pins(entry: Entry) -> Pins:
    """The digest that each tag stands for today; an image that is pinned without a tag has nothing newer."""
    pinned = {"image": entry.image} if entry.image else {}
    pinned |= {f"{TOOLS}{name}": container.image for name, container in containers(entry).items()}
    newest = {image: _newest(image) for image in dict.fromkeys(pinned.values())}
    return {key: newest[image] for key, image in pinned.items() if newest[image] != image}


def _newest(image: str) -> str:
    name = Reference.parse(image)
    if not name.tag:
        return image
    tag = f"{name.host}/{name.name}:{name.tag}"
    return f"{tag}@{Remote().resolve(tag)}"


def repinned(path: Path, document: bytes, pins: Pins) -> bytes:
    """``document`` with other pins; every other byte stays.  Raises ``EntryInvalid`` where a pin's line is not found."""
    places = parse_document(path, document)
    lines = document.decode().split("\n")
    for key, value in pins.items():
        place: Path_ = ("image",) if key == "image" else ("source", key)
        if key.startswith(TOOLS):
            number = _tool_names(path, document).index(key.removeprefix(TOOLS))
            place, key = ("tools", number, "container", "image"), "image"
        line = places.lines.get(place, 0)
        pattern = rf"(\b{key}:\s*)(\"[^\"]*\"|'[^']*'|[^\s,}}#]+)"
        found = re.search(pattern, lines[line - 1]) if line else None
        if found is None:
            raise places.at(place, "is not on one line with its value", "write it so, then update again")
        quoted = found[2][0] in "\"'" or (value[:1].isdigit() and key != "image")
        shown = f'"{value}"' if quoted else value
        lines[line - 1] = lines[line - 1][: found.start(2)] + shown + lines[line - 1][found.end(2) :]
    return "\n".join(lines).encode()


def _tool_names(path: Path, document: bytes) -> list[str]:
    return [tool.name for tool in parse_entry(path, document).tools]


def propose(settings: Settings, folder: Path, engine: Engine | None, progress: Progress = silent) -> Proposal:
    """``engine`` None: the pins alone.  Raises what looking up, locking and building raise."""
    entry, document = load_entry(folder), (folder / ENTRY_FILE).read_bytes()
    pins = newest_pins(entry)
    if not pins:
        return Proposal(entry.name, entry.version, entry.version)
    with tempfile.TemporaryDirectory(prefix="hm-update-") as place:
        copy = Path(place) / entry.name
        shutil.copytree(folder, copy)
        write_atomic(copy / ENTRY_FILE, repinned(folder / ENTRY_FILE, document, pins))
        newer = parse_entry(copy / ENTRY_FILE, (copy / ENTRY_FILE).read_bytes())
        if newer.build is not None:
            lock(newer, copy)
        files = {path.name: path.read_bytes() for path in sorted(copy.iterdir()) if path.is_file()}
        before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        proposal = Proposal(entry.name, entry.version, newer.version)
        proposal.files = {name: data for name, data in files.items() if before.get(name) != data}
        proposal.changes["What it may touch"] = differences.permissions(entry, newer)
        if engine is not None:
            _compare(settings, engine, entry, newer, copy.parent, proposal, progress)
    return proposal


def _compare(
    settings: Settings,
    engine: Engine,
    entry: Entry,
    newer: Entry,
    root: Path,
    proposal: Proposal,
    progress: Progress,
) -> None:
    """Build the newer one without leaving it as the one that was built last."""
    if is_toolset(newer):
        _compare_toolsets(settings, engine, entry, newer, root, proposal, progress)
        return
    records = BuildRecords(settings.home)
    kept = records.all().get(entry.name)
    old = _papers(settings, entry, kept.manifest) if kept else {}
    try:
        result = build_all(settings, engine, [newer], progress, root=root)[newer.name]
    finally:
        if kept is not None:
            records.put(entry.name, kept)
    if result.error:
        raise result.error
    new = _papers(settings, newer, result.manifest)
    proposal.changes["Tools"] = differences.tools(old.get(LISTING), new.get(LISTING, {}))
    proposal.changes["Packages"] = differences.packages(old.get(SBOM), new.get(SBOM, {}))
    if not old:
        proposal.changes["Note"] = [f"{entry.version} was never built here, so all of it is new"]


def _compare_toolsets(
    settings: Settings, engine: Engine, entry: Entry, newer: Entry, root: Path, proposal: Proposal, progress: Progress
) -> None:
    """Each image has a record of its own, so the newer ones leave the others as they are."""
    records = BuildRecords(settings.home).all()
    old = [_papers(settings, part, records[name].manifest) for name, part in parts(entry).items() if name in records]
    result = build_all(settings, engine, [newer], progress, root=root)[newer.name]
    if result.error:
        raise result.error
    new = [_papers(settings, parts(newer)[name], manifest) for name, (manifest, _) in (result.parts or {}).items()]
    proposal.changes["Tools"] = differences.tools(listing_of_tools(entry), listing_of_tools(newer))
    proposal.changes["Packages"] = differences.packages(_together(old), _together(new))
    if not old:
        proposal.changes["Note"] = [f"{entry.version} was never built here, so all of it is new"]


def _together(papers: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """One SBOM of several images."""
    return {"components": [component for each in papers for component in each.get(SBOM, {}).get("components", [])]}


def _papers(settings: Settings, entry: Entry, manifest: str) -> dict[str, dict[str, Any]]:
    """The verified predicates of an image's SBOM and listing."""
    layout = OciLayout(settings.oci_dir)
    verifier = Verifier(layout, None, TrustPolicy.load(settings), PolicySet.load(settings), offline=True)
    attached = Attached(layout, manifest, verifier.requirement(target_of_entry(entry)), None)
    found = {kind: attached.paper(kind) for kind in (SBOM, LISTING)}
    return {kind: fact.predicate for kind, fact in found.items() if fact is not None}


Say = Callable[[str], None]


def show(proposal: Proposal, say: Say) -> None:
    if not proposal.newer:
        say(f"{proposal.name} {proposal.now}: nothing newer")
        return
    say(f"{proposal.name}: {proposal.now} -> {proposal.then}")
    for heading, lines in proposal.changes.items():
        say(f"  {heading}:")
        for line in lines or ["nothing changes"]:
            say(f"    {line}")
