"""Where what a running server lists differs from what is locked.  Pure.  The rule and its reasons: docs/pins.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from harbourmaster.core.canonical import canonical

Item = dict[str, Any]

# Part of a listing -> (the capability it belongs to, the method that lists it, the key that names an item).
LISTS: Final[Mapping[str, tuple[str, str, str]]] = {
    "tools": ("tools", "tools/list", "name"),
    "prompts": ("prompts", "prompts/list", "name"),
    "resources": ("resources", "resources/list", "uri"),
    "resourceTemplates": ("resources", "resources/templates/list", "uriTemplate"),
}
INSTRUCTIONS: Final = "instructions"

# Resources are data: they come and go, grow, and have dates.  What they are called and described as is held to the lock.
_DATA: Final[Mapping[str, frozenset[str]]] = {
    "resources": frozenset({"size", "annotations"}),
    "resourceTemplates": frozenset({"annotations"}),
}
COMING_AND_GOING: Final = frozenset({"resources"})

# What revisions before 2025-11-25 lack in part or whole; a server may leave it out for a client that speaks one.
_YOUNG: Final = ("title", "annotations", "outputSchema", "icons", "execution", "_meta")


@dataclass(frozen=True)
class Drift:
    """``changed`` and ``added``: the items as the server lists them now, by name.  ``missing``: names."""

    part: str
    changed: Mapping[str, list[Any]] = field(default_factory=dict)
    added: Mapping[str, list[Any]] = field(default_factory=dict)
    missing: frozenset[str] = frozenset()

    @property
    def telling(self) -> bool:
        """Whether a person should hear of it; absence alone says little."""
        return bool(self.changed or self.added)


def compare(
    part: str, locked: Iterable[Item], live: Iterable[Any], *, same_version: bool, filled: Iterable[str] = ()
) -> Drift:
    """What became of ``part``; order does not matter.  ``same_version``: the client speaks the listing's revision.

    ``filled``: values that a profile gave the server and the defaults in their place; some servers repeat them in
    descriptions, so they say nothing either way.
    """
    key = LISTS[part][2]
    before, now = _by_name(locked, key), _by_name(live, key)
    changed = {
        n: items
        for n, items in now.items()
        if n in before and _differs(part, before[n], items, same_version, tuple(filled))
    }
    added = {} if part in COMING_AND_GOING else {n: items for n, items in now.items() if n not in before}
    return Drift(part, changed, added, frozenset(before) - frozenset(now))


def compare_instructions(locked: Any, live: Any, filled: Iterable[str] = ()) -> Drift:
    """Instructions that a client would never see: a server that gives none takes nothing away."""
    if not live or live == locked or _same_but_for(live, locked, filled):
        return Drift(INSTRUCTIONS)
    return Drift(INSTRUCTIONS, changed={INSTRUCTIONS: [live]}) if locked else Drift(INSTRUCTIONS, added={"": [live]})


def _by_name(items: Iterable[Any], key: str) -> dict[str, list[Item]]:
    named: dict[str, list[Item]] = {}
    for item in items:
        if isinstance(item, dict) and isinstance(item.get(key), str):  # what has no name cannot be asked for
            named.setdefault(item[key], []).append(item)
    return named


def _differs(part: str, locked: list[Item], live: list[Item], same_version: bool, filled: tuple[str, ...] = ()) -> bool:
    """One name may be listed twice: every item under it must be one that was locked."""
    for item in live:
        kept = locked if same_version else [_as_old(item, each) for each in locked]
        try:
            if _said(part, item, filled) not in {_said(part, each, filled) for each in kept}:
                return True
        except (ValueError, RecursionError):  # numbers and depths that canonical JSON cannot hold were never locked
            return True
    return False


def _as_old(live: Item, locked: Item) -> Item:
    return {k: v for k, v in locked.items() if k in live or k not in _YOUNG}


def _said(part: str, item: Item, filled: Iterable[str] = ()) -> bytes:
    data = _DATA.get(part, frozenset())
    return _blank(canonical({k: v for k, v in item.items() if k not in data}), filled)


def _same_but_for(live: Any, locked: Any, filled: Iterable[str]) -> bool:
    if not isinstance(live, str) or not isinstance(locked, str):
        return False
    for value in filled:
        live, locked = live.replace(value, ""), locked.replace(value, "")
    return bool(live == locked)


def _blank(said: bytes, filled: Iterable[str]) -> bytes:
    for value in filled:
        said = said.replace(canonical(value)[1:-1], b"")  # as it stands within a JSON string
    return said
