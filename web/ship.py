"""Everything that a server's page shows, as plain values.  Blocking; reads, changes nothing."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote

from sqlmodel import Session, col, select

from catalog.entries import find_entry
from catalog.errors import EntryUnknown
from catalog.models import Component, EntryVersion
from catalog.show import entry_details
from gateway.lock import LockedServer, read_lock
from gateway.profiles.values import schemas
from harbourmaster.core.errors import HarbourError
from harbourmaster.core.secrets import SecretId, SecretStore
from harbourmaster.core.settings import Settings
from registry.entry import Entry
from registry.places import find_entry as find_entry_file
from sandbox.access import Access
from web.harbour import Harbour
from web.words import Mark, Touch, moment, permission_lines, short_digest, vulnerability_mark

PAPERS = {
    "signature": ("seal", "Signed", "The image is the one that was signed"),
    "sbom": ("papers", "SBOM", "The list of what is inside is signed for this image"),
    "provenance": ("hull", "Provenance", "What it was built from, and how, is signed for this image"),
    "listing": ("tool", "Tools", "The tools below are those it listed while locked up without a network, signed"),
}


def ship(harbour: Harbour, name: str) -> dict[str, Any]:
    """Raises ``EntryUnknown``.  Secrets are there by name; no value is read."""
    with harbour.store.reading() as session:
        details = entry_details(session, find_entry(session, name))
        digests = [image["digest"] for image in details.get("images", []) if image["digest"]]
        cargo = _cargo(session, digests)
    locked = read_lock(harbour.settings.lock_file).get(name)
    entry = _entry_file(harbour.settings, name)
    shown = papers(details.get("images", []))
    return {
        "server": details,
        "locked": locked,
        "papers": shown,
        "witnesses": {(p["by"], p["when"], p["policy"]) for p in shown if p["fact"]},
        "cargo": cargo,
        "touches": touches(details, locked),
        "relaxations": _relaxations(entry),
        "secrets": secrets(harbour.settings, name, entry, locked),
        "parameters": _parameters(entry, locked),
        "hulls": digests,
    }


def version_diff(harbour: Harbour, name: str, old: str, new: str) -> list[str]:
    """What the source wrote for two versions of a server, as lines of a unified diff.  Raises ``EntryUnknown``."""
    with harbour.store.reading() as session:
        found = find_entry(session, name)
        versions = session.exec(select(EntryVersion).where(EntryVersion.entry_id == found.id)).all()
    documents = {v.version: _lines(v.document) for v in versions}
    for version in (old, new):
        if version not in documents:
            raise EntryUnknown(f"{name} has no version {version}", remedy=f"it has: {', '.join(sorted(documents))}")
    return list(difflib.unified_diff(documents[old], documents[new], old, new, lineterm=""))


def _lines(document: bytes) -> list[str]:
    """One member to a line where it is JSON, so that what changed stands alone."""
    try:
        return json.dumps(json.loads(document), indent=2, ensure_ascii=False).splitlines()
    except ValueError:
        return document.decode("utf-8", "replace").splitlines()


def papers(images: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What was verified, in the order people ask: who signed it, what is inside, where it comes from, what it says."""
    facts = {fact["kind"]: fact for image in images for fact in image["evidence"]}
    return [
        {
            "kind": kind,
            "icon": picture,
            "title": title,
            "meaning": meaning,
            "fact": facts.get(kind),
            **_witness(facts.get(kind)),
        }
        for kind, (picture, title, meaning) in PAPERS.items()
    ]


def _witness(fact: Mapping[str, Any] | None) -> dict[str, str]:
    """Who signed, when it was verified here, and by which rule and policies."""
    if fact is None:
        return {"by": "", "when": "", "policy": ""}
    kind, _, key = str(fact["by"]).partition(" ")
    rules = [
        rule for rule in str(fact["policy"]).split(", ") if rule != "sha256"
    ]  # how bytes were compared is no policy
    by = f"{kind} {short_digest(key)}" if kind == "key" else str(fact["by"])
    return {"by": by, "when": moment(str(fact["verified_at"])), "policy": " and ".join(rules)}


def touches(details: Mapping[str, Any], locked: LockedServer | None) -> list[Touch]:
    """Where it may sail, by the lock where there is one: that is what runs."""
    permissions = dict(details.get("permissions") or {})
    if locked is not None:
        network = locked.run.get("network") or {}
        permissions |= {
            "hosts": list(network.get("hosts") or ()),
            "network": "hosts" if network.get("hosts") else "none",
            "secrets": [s["name"] for s in locked.run.get("secrets", ())],
            "volumes": _given(locked),
        }
    found = permission_lines(permissions, str(details["kind"]))
    if details["read_only"]:
        found.append(Touch("read", "Every tool says of itself that it only reads."))
    return found


def _given(locked: LockedServer) -> list[str]:
    """Paths of this machine, the entry's and a person's."""
    try:
        paths = Access.parse(locked.run, locked.granted).host_paths
    except HarbourError:
        return []  # then no sandbox of it starts
    return [f"{path.host} ({'to read and write' if path.write else 'to read'})" for path in paths]


def verdict(details: Mapping[str, Any], *, advisories: bool) -> Mark:
    known = details["vulnerabilities"]
    return vulnerability_mark(bool(known["affecting"]) if known["known"] else None, advisories=advisories)


def secrets(settings: Settings, name: str, entry: Entry | None, locked: LockedServer | None) -> list[dict[str, Any]]:
    """``{name, description, required, held, given_as}``; ``held`` says where a value is kept, never what it is."""
    words = {s.name: s.description for s in entry.config.secrets} if entry else {}
    declared = [dict(s) for s in locked.run.get("secrets", ())] if locked else []
    if not locked and entry:
        declared = [s.as_dict() for s in entry.secrets()]
    if not declared:
        return []
    kept = {held.id: held for held in _held(settings)}
    return [
        {
            "name": s["name"],
            "description": words.get(s["name"], ""),
            "required": bool(s.get("required", True)),
            "given_as": f"{s['env']}{', as a file' if s.get('as') == 'file' else ''}",
            "held": kept.get(SecretId(name, s["name"])),
        }
        for s in declared
    ]


def _held(settings: Settings) -> list[Any]:
    try:
        return list(SecretStore.of(settings).list())
    except HarbourError:
        return []  # then every secret is shown as one that was not set; setting it says what is wrong


def _cargo(session: Session, digests: list[str]) -> list[dict[str, str]]:
    """Packages by name; an advisory's name of a package may be its source's, so the name shown is the purl's own."""
    query = select(Component).where(col(Component.digest).in_(digests))
    rows = [
        {"name": package_name(c.purl), "version": c.version, "kind": c.purl_type, "licence": c.licence}
        for c in {c.purl: c for c in session.exec(query)}.values()
    ]
    return sorted(rows, key=lambda row: (row["kind"], row["name"].lower()))


def package_name(purl: str) -> str:
    """``@scope/name`` of ``pkg:npm/%40scope/name@1.0?arch=all``; of a distribution's package its name alone."""
    kind, _, path = purl.removeprefix("pkg:").partition("?")[0].partition("/")
    name = unquote(path.rpartition("@")[0] or path)
    return name.rpartition("/")[2] if kind in ("deb", "apk", "rpm") else name


def _entry_file(settings: Settings, name: str) -> Entry | None:
    try:
        return find_entry_file(settings, name)
    except HarbourError:
        return None  # an entry of another catalog


def _relaxations(entry: Entry | None) -> list[dict[str, Any]]:
    if entry is None:
        return []
    found = {limit: item for limit, item in entry.run.sandbox if item is not None}
    return [{"limit": limit, "value": item.value, "reason": item.reason} for limit, item in found.items()]


def _parameters(entry: Entry | None, locked: LockedServer | None) -> dict[str, dict[str, Any]]:
    """Name -> JSON Schema; the lock's word counts."""
    if locked is not None:
        return schemas(locked)
    return {name: spec.json_schema() for name, spec in entry.config.parameters.items()} if entry else {}
