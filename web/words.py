"""Facts in plain words.  Pure; every function gives text or small mappings, never markup."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from catalog.categories import CATEGORIES
from catalog.search.documents import Card

Verdict = Literal["good", "warn", "bad", "none"]


@dataclass(frozen=True)
class Mark:
    """An icon and a word; ``verdict`` adds a colour to them and never stands alone."""

    verdict: Verdict
    icon: str
    word: str
    why: str = ""


@dataclass(frozen=True)
class Touch:
    """One thing that a server may touch."""

    icon: str
    word: str


FACET_TITLES: Final = {
    "category": "Category",
    "tier": "Tier",
    "evidence": "Evidence",
    "permission": "May touch",
    "type": "Type",
    "state": "State",
    "licence": "Licence",
    "source": "Source",
    "status": "Status",
    "tag": "Tag",
}
_VALUES: Final = {
    "tier": {"built": "Built from source", "community": "Publisher's image"},
    "type": {"server": "Container", "remote": "Remote", "poci": "Tool image"},
    "state": {"runs-as-written": "Runs as written", "held": "Held back"},
    "evidence": {
        "signed": "Signed",
        "sbom": "SBOM",
        "provenance": "Provenance",
        "no-known-vulnerabilities": "No known vulnerabilities",
    },
    "permission": {"no-network": "No network", "no-secrets": "No secrets", "read-only": "Only reads"},
    "status": {"active": "Active", "deprecated": "Deprecated", "deleted": "Deleted"},
}
SORTS: Final = {
    "relevance": "Best match",
    "name": "Name",
    "updated": "Last changed",
    "tools": "Most tools",
}


def facet_value(facet: str, value: str) -> str:
    if facet == "category":
        return CATEGORIES.get(value, value)
    return _VALUES.get(facet, {}).get(value, value)


def evidence_marks(card: Card, *, advisories: bool) -> tuple[Mark, Mark, Mark]:
    """Signed, SBOM, no known vulnerabilities.  ``advisories``: whether any are known to compare with."""
    signed = (
        Mark("good", "seal", "Signed")
        if "signature" in card.evidence
        else Mark("none", "dash", "Not signed", "no signature was verified here")
    )
    sbom = (
        Mark("good", "papers", "SBOM")
        if "sbom" in card.evidence
        else Mark("none", "dash", "No SBOM", "nobody here knows what is inside")
    )
    return signed, sbom, vulnerability_mark(card.vulnerable, advisories=advisories)


def vulnerability_mark(vulnerable: bool | None, *, advisories: bool) -> Mark:
    if vulnerable is None:
        return Mark("none", "dash", "Not checked", "without an SBOM nobody knows what to look for")
    if vulnerable:
        return Mark("warn", "warn", "Known vulnerabilities")
    if not advisories:
        return Mark("none", "question", "Not checked", "no advisories are loaded: hm catalog vulnerabilities import")
    return Mark("good", "check", "No known vulnerabilities")


def card_touches(card: Card) -> tuple[Touch, ...]:
    """What a card says it may touch, in three words at most each."""
    found = [NETWORK_TOUCH.get(card.network, NETWORK_TOUCH["undeclared"])]
    if card.kind == "remote":
        found = [NETWORK_TOUCH["remote"]]
    if card.needs_secrets:
        found.append(Touch("key", "Takes a secret"))
    if card.read_only:
        found.append(Touch("read", "Only reads"))
    return tuple(found)


NETWORK_TOUCH: Final = {
    "none": Touch("no-network", "No network"),
    "hosts": Touch("network", "Named hosts"),
    "undeclared": Touch("no-network", "No network"),
    "remote": Touch("network", "Runs elsewhere"),
}


def permission_lines(permissions: Mapping[str, Any], kind: str) -> list[Touch]:
    """Where it may sail: one sentence for each kind of thing."""
    hosts, secrets = permissions.get("hosts") or [], permissions.get("secrets") or []
    volumes, oauth = permissions.get("volumes") or [], permissions.get("oauth") or []
    lines = [_network_line(str(permissions.get("network", "undeclared")), hosts, kind)]
    lines.append(
        Touch("disk", f"It is given these of your files and folders: {', '.join(volumes)}.")
        if volumes
        else Touch("disk", "It sees none of your files; its own disk is read-only and is thrown away after use.")
    )
    lines.append(
        Touch("key", f"It is given {_counted(len(secrets), 'secret')}: {', '.join(secrets)}.")
        if secrets
        else Touch("key", "It is given no secrets.")
    )
    if oauth:
        lines.append(Touch("people", f"It acts in your name at: {', '.join(oauth)}."))
    return lines


def _network_line(network: str, hosts: list[str], kind: str) -> Touch:
    if kind == "remote" or network == "remote":
        where = f" at {', '.join(hosts)}" if hosts else ""
        return Touch("network", f"It runs on its publisher's machines{where}; what you send it leaves this machine.")
    if hosts:
        return Touch("network", f"It may connect to {', '.join(hosts)}, and to nothing else.")
    if network == "undeclared":
        return Touch("no-network", "It names no hosts, so its sandbox has no network.")
    return Touch("no-network", "It has no network at all.")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


counted = _counted


def size(count: float) -> str:
    """Bytes in units of 1000, as disks are sold and as `hm model ls` says it."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return ""


def span(seconds: float) -> str:
    for limit, length, unit in ((60, 1, "s"), (3600, 60, "min"), (86_400, 3600, "h")):
        if seconds < limit:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds // 86_400)} d"


def moment(text: str) -> str:
    """``2026-11-21T14:03:05.123Z`` as ``21 Nov 2026, 14:03 UTC``; what is no time stays as it is."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return text
    found = found.astimezone(UTC) if found.tzinfo else found
    return f"{found.day} {found:%b %Y, %H:%M} UTC"


def moment_s(text: str) -> str:
    """To the second, for lists of what happened: ``21 Nov 14:03:05``."""
    try:
        found = datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return text
    return f"{found.day} {found:%b %H:%M:%S}"


def clipped(text: str, most: int) -> str:
    """The first line, cut between words, with an ellipsis where something is left out."""
    line, _, more = text.strip().partition("\n")
    if len(line) <= most:
        return f"{line} …" if more and not line.endswith((".", "!", "?")) else line
    return f"{line[:most].rsplit(' ', 1)[0].rstrip(',;:. ')} …"


def short_digest(digest: str) -> str:
    return digest[:19] if digest.startswith("sha256:") else digest[:12]


def visible(text: str) -> str:
    """Characters that nobody sees or that reorder text, spelt out: a page must not be steered by what it quotes."""
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\u{ord(c):04x}" for c in text)


def joined(items: Iterable[str]) -> str:
    return ", ".join(items)
