"""What people narrow a search by, and the counts beside each choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from catalog.categories import CATEGORIES
from catalog.errors import QueryInvalid
from catalog.search.documents import Card

Mask = NDArray[np.bool_]

EVIDENCE: dict[str, Callable[[Card], bool]] = {
    "signed": lambda c: "signature" in c.evidence,
    "sbom": lambda c: "sbom" in c.evidence,
    "provenance": lambda c: "provenance" in c.evidence,
    "no-known-vulnerabilities": lambda c: c.vulnerable is False,
}
PERMISSIONS: dict[str, Callable[[Card], bool]] = {
    "no-network": lambda c: c.network in ("none", "undeclared"),
    "no-secrets": lambda c: not c.needs_secrets,
    "read-only": lambda c: c.read_only,
}

# Facet -> the values a card has in it.  Values of one facet widen a search, except those in ALL_OF: there each narrows it.
FACETS: dict[str, Callable[[Card], tuple[str, ...]]] = {
    "category": lambda c: (c.category,),
    "tier": lambda c: (c.tier,),
    "type": lambda c: (c.kind,),
    "licence": lambda c: (c.licence,) if c.licence else (),
    "source": lambda c: (c.source,),
    "status": lambda c: (c.status,),
    "state": lambda c: ("runs-as-written",) if c.runnable else ("held",),
    "tag": lambda c: c.tags,
    "evidence": lambda c: tuple(k for k, test in EVIDENCE.items() if test(c)),
    "permission": lambda c: tuple(k for k, test in PERMISSIONS.items() if test(c)),
}
ALL_OF = frozenset({"evidence", "permission", "tag"})
FIXED = {
    "category": tuple(CATEGORIES),
    "tier": ("built", "community"),
    "type": ("server", "remote", "poci"),
    "state": ("runs-as-written", "held"),
    "evidence": tuple(EVIDENCE),
    "permission": tuple(PERMISSIONS),
}
MAX_FACET_VALUES = 50


@dataclass(frozen=True)
class _Facet:
    """Which documents have which value, as pairs."""

    values: list[str]
    numbers: dict[str, int]
    docs: NDArray[np.int32]
    codes: NDArray[np.int32]


class FacetIndex:
    """For each facet and value, which documents have it."""

    def __init__(self, cards: list[Card]) -> None:
        self._size = len(cards)
        self._facets = {facet: _facet(cards, values_of) for facet, values_of in FACETS.items()}
        sizes = [len(f.values) for f in self._facets.values()]
        self._starts = dict(zip(self._facets, np.cumsum([0, *sizes]).tolist(), strict=False))
        # All facets in one row, so that one count serves them all.
        self._docs = np.concatenate([f.docs for f in self._facets.values()])
        self._codes = np.concatenate([f.codes + self._starts[n] for n, f in self._facets.items()])
        self._values = sum(sizes)

    def mask(self, filters: Mapping[str, tuple[str, ...]], *, without: str = "") -> Mask:
        """Documents that pass ``filters``, the facet ``without`` left out."""
        allowed = np.ones(self._size, dtype=np.bool_)
        for facet, wanted in filters.items():
            if facet != without and wanted:
                allowed &= self._facet_mask(facet, wanted)
        return allowed

    def _facet_mask(self, name: str, wanted: tuple[str, ...]) -> Mask:
        facet, masks = self._facets[name], []
        for value in wanted:
            one = np.zeros(self._size, dtype=np.bool_)
            one[facet.docs[facet.codes == facet.numbers.get(value, -1)]] = True
            masks.append(one)
        combine = np.logical_and if name in ALL_OF else np.logical_or
        result: Mask = combine.reduce(masks)
        return result

    def all_counts(self, matched: Mask) -> dict[str, dict[str, int]]:
        """For each facet, how many matched documents have each value: the largest first, the fixed ones always."""
        counted = np.bincount(self._codes[matched[self._docs]], minlength=self._values)
        return {
            n: _named(n, f, counted[self._starts[n] : self._starts[n] + len(f.values)]) for n, f in self._facets.items()
        }

    def counts(self, name: str, matched: Mask) -> dict[str, int]:
        facet = self._facets[name]
        return _named(name, facet, np.bincount(facet.codes[matched[facet.docs]], minlength=len(facet.values)))


def _named(name: str, facet: _Facet, counted: NDArray[np.int64]) -> dict[str, int]:
    order = np.flatnonzero(counted)
    order = order[np.argsort(-counted[order], kind="stable")][:MAX_FACET_VALUES]
    found = {facet.values[n]: int(counted[n]) for n in order}
    return found | {v: 0 for v in FIXED.get(name, ()) if v not in found and name != "category"}


def _facet(cards: list[Card], values_of: Callable[[Card], tuple[str, ...]]) -> _Facet:
    pairs = [(number, value) for number, card in enumerate(cards) for value in values_of(card)]
    values = sorted({value for _, value in pairs})
    numbers = {value: n for n, value in enumerate(values)}
    docs = np.asarray([n for n, _ in pairs], dtype=np.int32)
    return _Facet(values, numbers, docs, np.asarray([numbers[v] for _, v in pairs], dtype=np.int32))


def checked(filters: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """``filters`` when every facet and every fixed value exists; raises ``QueryInvalid`` that names the known ones."""
    for facet, wanted in filters.items():
        if facet not in FACETS:
            raise QueryInvalid(f"no filter {facet!r}", remedy=f"one of: {', '.join(FACETS)}")
        for value in wanted:
            if facet in FIXED and value not in FIXED[facet]:
                raise QueryInvalid(f"{facet} has no value {value!r}", remedy=f"one of: {', '.join(FIXED[facet])}")
    return dict(filters)
