"""Vectors kept in the database: read for an index, made where they are missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from sqlmodel import Session, col, delete, select

from catalog.models import Embedding
from catalog.search.index import Floats
from catalog.search.semantic import Described, Embedder, Meaning
from catalog.store import Store

AT_ONCE = 64  # made and kept together, so that an interruption loses little
KEYS_AT_ONCE = 500  # SQLite's oldest limit on parameters is 999


def meaning_of(store: Store, texts: Sequence[Described]) -> Meaning | None:
    """The vectors of ``texts`` in their order; None while one is missing."""
    with store.reading() as session:
        known = _known(session, {t.digest for t in texts})
    if not texts or any(t.digest not in known for t in texts):
        return None
    return Meaning(np.stack([known[t.digest] for t in texts]))


def make_missing(store: Store, embedder: Embedder, texts: Sequence[Described]) -> Iterator[int]:
    """Make and keep what is missing; yields how many are still to come, after each step.  Raises what ``embed`` raises."""
    wanted = {t.digest: t.text for t in texts}
    with store.reading() as session:
        missing = sorted(wanted.keys() - _known(session, set(wanted)).keys())
    for start in range(0, len(missing), AT_ONCE):
        part = missing[start : start + AT_ONCE]
        vectors = embedder.embed([wanted[digest] for digest in part])
        with store.writing() as session:
            for digest, vector in zip(part, vectors, strict=True):
                session.merge(Embedding(digest=digest, model=embedder.model, vector=vector.astype("<f2").tobytes()))
        yield len(missing) - start - len(part)


def drop_unused(store: Store, model: str, texts: Sequence[Described]) -> None:
    """Forget the vectors of texts that no entry has any more."""
    used = {t.digest for t in texts}
    with store.writing() as session:
        kept = session.exec(select(Embedding.digest).where(Embedding.model == model)).all()
        for part in _parts(sorted(set(kept) - used)):
            session.exec(delete(Embedding).where(col(Embedding.digest).in_(part)))


def _known(session: Session, digests: set[str]) -> dict[str, Floats]:
    found: dict[str, Floats] = {}
    for part in _parts(sorted(digests)):
        rows = session.exec(select(Embedding.digest, Embedding.vector).where(col(Embedding.digest).in_(part)))
        found.update({digest: np.frombuffer(vector, dtype="<f2").astype(np.float32) for digest, vector in rows})
    return found


def _parts(items: list[str]) -> Iterator[list[str]]:
    yield from (items[n : n + KEYS_AT_ONCE] for n in range(0, len(items), KEYS_AT_ONCE))
