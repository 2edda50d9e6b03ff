"""Nearness in meaning: vectors of entries and queries from a local embedding model, blended into the words' scores.

Where no model answers, search goes on by words alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from catalog.search.documents import SearchDocument, about
from catalog.search.index import Floats
from harbourmaster.core.digests import sha256

WEIGHT = 0.4
"""The least share of nearness in the blend, where words cover the whole query; from 0.3 to 0.5 the judged queries' first
half differs by 0.007 nDCG@10 at most."""
NEAREST = 10
LEAST_NEARNESS = 0.35
"""An entry that shares no word with the query is shown when it is among the ``NEAREST`` and at least this near (cosine)."""
MAX_CHARS = 900  # of an entry's text: about 250 word pieces, what all-MiniLM-L6-v2 was trained to read


class Embedder(Protocol):
    """``model`` names the space that vectors of this embedder live in; vectors of two spaces are never compared."""

    model: str

    def embed(self, texts: Sequence[str], *, timeout_s: float = ...) -> Floats:
        """One row of length 1 per text; raises ``EmbedderUnavailable`` where the model does not answer in time."""
        ...


@dataclass(frozen=True)
class Described:
    """What an entry's vector is made of, and the digest it is kept by."""

    text: str
    digest: str


def described(document: SearchDocument, model: str) -> Described:
    card = document.card
    parts = (card.title, about(card), card.description, " ".join(document.fields["tools"]))
    text = ". ".join(p for p in parts if p)[:MAX_CHARS]
    return Described(text, sha256(f"{model}\0{text}".encode()))


def blended(found: Floats, covered: float, nearness: Floats) -> Floats:
    """Scores of words (0: no match) and cosines -> one number per document between 0 and 1, 0 where neither matches.

    ``covered``: how much of the query the best match of words covers; what words leave open, nearness decides.
    """
    best = found.max(initial=0.0)
    low, high = float(nearness.min(initial=0.0)), float(nearness.max(initial=0.0))
    if high <= low:
        return found
    words = (1 - WEIGHT) * covered
    total = (1 - words) * (nearness - low) / (high - low) + (words * found / best if best > 0 else 0)
    total[~((found > 0) | _near(nearness))] = 0.0
    return np.asarray(total, dtype=np.float32)


def _near(nearness: Floats) -> NDArray[np.bool_]:
    mask = np.zeros(len(nearness), dtype=np.bool_)
    mask[np.argsort(-nearness, kind="stable")[:NEAREST]] = True
    return mask & (nearness >= LEAST_NEARNESS)


@dataclass(frozen=True)
class Meaning:
    """The vectors of an index's documents, in its order."""

    vectors: Floats

    def nearness(self, query: Floats) -> Floats:
        return np.asarray(self.vectors @ query, dtype=np.float32)
