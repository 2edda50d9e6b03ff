"""Is this version affected?  OSV's evaluation over ``univers`` versions, which know each ecosystem's order.

Source: ossf.github.io/osv-schema, "Evaluation": a version is affected when it is listed, or when it lies in a range: at or after
an ``introduced``, before the next ``fixed``, at or before a ``last_affected``, and before every ``limit``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from univers.version_constraint import VersionConstraint
from univers.version_range import RANGE_CLASS_BY_SCHEMES, VersionRange
from univers.versions import InvalidVersion, Version


class Undecided(Exception):
    """The version, or one in the advisory, cannot be compared."""


def is_affected(purl_type: str, version: str, ranges: Iterable[Mapping[str, Any]], versions: Sequence[str]) -> bool:
    """Raises ``Undecided`` when no listed version matches and a range cannot be evaluated."""
    if version in versions:
        return True
    own = _version(purl_type, version) if versions or ranges else None
    if own is None:
        if any(True for _ in ranges):
            raise Undecided(version)
        return False
    if any(own == other for v in versions if (other := _version(purl_type, v)) is not None):
        return True
    return any(_in_range(purl_type, own, r.get("events", [])) for r in ranges)


def _in_range(purl_type: str, own: Version, events: Iterable[Mapping[str, str]]) -> bool:
    ordered = sorted((_event(purl_type, e) for e in events), key=_place)
    limits = [v for kind, v in ordered if kind == "limit" and v is not None]
    if limits and not any(own < limit for limit in limits):
        return False
    return any(own in interval for interval in _intervals(purl_type, ordered))


def _event(purl_type: str, event: Mapping[str, str]) -> tuple[str, Version | None]:
    for kind in ("introduced", "fixed", "last_affected", "limit"):
        if kind in event:
            if event[kind] in ("0", "*"):
                return kind, None
            found = _version(purl_type, event[kind])
            if found is None:
                raise Undecided(event[kind])
            return kind, found
    raise Undecided("an event of unknown kind")


class _Lowest:
    """Before every version."""

    def __lt__(self, _other: object) -> bool:
        return True

    def __gt__(self, _other: object) -> bool:
        return False


def _place(event: tuple[str, Version | None]) -> tuple[Any, int]:
    kind, version = event
    order = {"introduced": 1, "fixed": 0, "last_affected": 2, "limit": 3}[kind]
    return (_Lowest() if version is None else version), order


def _intervals(purl_type: str, events: list[tuple[str, Version | None]]) -> list[VersionRange | _Everything]:
    """Each stretch from an ``introduced`` to what ends it, as a range that ``univers`` evaluates."""
    made: list[VersionRange | _Everything] = []
    start: list[VersionConstraint] | None = None
    kind_class = RANGE_CLASS_BY_SCHEMES[purl_type]
    for kind, version in events:
        if kind == "introduced" and start is None:
            start = [] if version is None else [VersionConstraint(comparator=">=", version=version)]
        elif kind in ("fixed", "last_affected") and start is not None and version is not None:
            end = VersionConstraint(comparator="<" if kind == "fixed" else "<=", version=version)
            made.append(kind_class(constraints=(*start, end)))
            start = None
    if start is not None:
        made.append(kind_class(constraints=tuple(start)) if start else _Everything())
    return made


class _Everything:
    def __contains__(self, _version: object) -> bool:
        return True


@lru_cache(maxsize=50_000)
def _version(purl_type: str, text: str) -> Version | None:
    kind_class = RANGE_CLASS_BY_SCHEMES.get(purl_type)
    version_class: type[Version] | None = getattr(kind_class, "version_class", None)
    if version_class is None or not text or len(text) > 256:
        return None
    try:
        return version_class(text)
    except (InvalidVersion, ValueError, TypeError, AttributeError, IndexError):
        return None
