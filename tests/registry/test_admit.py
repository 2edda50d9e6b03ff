"""Verdicts are cached while nothing changed, and for a day; what cannot be recorded is not admitted."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from papered import Harbour, harbour
from test_verify import FixedEngine

from harbourmaster.core.audit import AuditUnavailable
from registry.admit import VERDICT_LIFE, Admitter
from registry.errors import ImageMoved


class Book:
    """An audit that keeps its records in a list, and fails when told to."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.broken = False

    def append(self, record: dict[str, Any]) -> None:
        if self.broken:
            raise AuditUnavailable("the disk is full", remedy="free some space")
        self.records.append(record)

    append_durably = append


@pytest.fixture
def place(home: Path) -> Harbour:
    place = harbour(home)
    digest = place.papered()
    place.engine = FixedEngine(place.layout.read_manifest(digest).config.digest)
    return place


@pytest.fixture
def book() -> Book:
    return Book()


def admitter(place: Harbour, book: Book, *, at: datetime | None = None, **target: Any) -> Admitter:
    moment = at or datetime.now(UTC)
    chosen = place.target(**target)
    verifier = place.verifier(now=lambda: moment)
    return Admitter(place.settings, verifier, book, lambda name: chosen, now=lambda: moment)


def test_the_second_admission_comes_from_the_cache_also_in_another_process(place: Harbour, book: Book) -> None:
    first = admitter(place, book).admit("tiny")
    second = admitter(place, book).admit("tiny")
    assert (first.cached, second.cached) == (False, True)
    assert (first.image, first.image_id, first.policies) == (second.image, second.image_id, second.policies)
    assert first.evidence == second.evidence
    assert [r["cached"] for r in book.records] == [False, True]


def test_a_verdict_expires(place: Harbour, book: Book) -> None:
    start = datetime.now(UTC)
    admitter(place, book, at=start).admit("tiny")
    almost, past = start + VERDICT_LIFE - timedelta(seconds=1), start + VERDICT_LIFE
    assert admitter(place, book, at=almost).admit("tiny").cached
    assert not admitter(place, book, at=past).admit("tiny").cached


def test_a_verdict_from_the_future_is_no_verdict(place: Harbour, book: Book) -> None:
    start = datetime.now(UTC)
    admitter(place, book, at=start + timedelta(days=300)).admit("tiny")
    assert not admitter(place, book, at=start).admit("tiny").cached


@pytest.mark.parametrize("change", ["tier facts", "policies", "touched blob", "replaced blob", "new paper"])
def test_whatever_changes_is_verified_again(place: Harbour, book: Book, change: str) -> None:
    admitter(place, book).admit("tiny")
    digest = place.layout.resolve("tiny:1")
    target: dict[str, Any] = {}
    if change == "tier facts":
        from policies.admission import EntryFacts

        target["facts"] = EntryFacts(relaxations=("pids",), approved_relaxations=("pids",))
    elif change == "policies":
        chosen = place.verifier()
        more = (*chosen.policies.files, ("own", '@id("own.x") @reason("r") @remedy("r") forbid (principal, action, resource) '
                                                'when { context.tier == "never" };'))  # fmt: skip
        from policies.policy_set import PolicySet, builtin_schema

        chosen.policies = PolicySet(more, builtin_schema())
        admitted = Admitter(place.settings, chosen, book, lambda name: place.target()).admit("tiny")
        assert not admitted.cached
        return
    elif change == "touched blob":
        place.layer_path(digest).touch()
    elif change == "replaced blob":
        path = place.layer_path(digest)
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)
    else:
        place.layout.add_referrer(digest, b"one more paper")
    assert not admitter(place, book, **target).admit("tiny").cached


def test_a_verdict_stands_for_a_lock_that_names_the_same_image_and_not_for_another(place: Harbour, book: Book) -> None:
    admitter(place, book).admit("tiny")
    assert admitter(place, book, locked=place.layout.resolve("tiny:1")).admit("tiny").cached
    with pytest.raises(ImageMoved):
        admitter(place, book, locked="sha256:" + "0" * 64).admit("tiny")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version":1,"verdicts":{"tiny":7}}', '{"version":2,"verdicts":{}}'])
def test_a_cache_that_cannot_be_read_is_no_cache(place: Harbour, book: Book, text: str) -> None:
    admitter(place, book).admit("tiny")
    (place.settings.home / "verdicts.json").write_text(text)
    assert not admitter(place, book).admit("tiny").cached
    assert admitter(place, book).admit("tiny").cached


@pytest.mark.parametrize("key", ["image", "config", "image_id", "evidence", "policies", "state", "files", "expires"])
def test_a_verdict_with_a_part_missing_is_no_verdict(place: Harbour, book: Book, key: str) -> None:
    admitter(place, book).admit("tiny")
    path = place.settings.home / "verdicts.json"
    body = json.loads(path.read_text())
    del body["verdicts"]["tiny"][key]
    path.write_text(json.dumps(body))
    assert not admitter(place, book).admit("tiny").cached


def test_without_an_audit_nothing_is_admitted_cached_or_not(place: Harbour, book: Book) -> None:
    book.broken = True
    with pytest.raises(AuditUnavailable):
        admitter(place, book).admit("tiny")
    book.broken = False
    admitter(place, book).admit("tiny")
    book.broken = True
    with pytest.raises(AuditUnavailable):
        admitter(place, book).admit("tiny")


def test_an_image_that_left_the_engine_is_loaded_again(place: Harbour, book: Book) -> None:
    class Forgetful(FixedEngine):
        def load(self, archive: Any) -> list[str]:
            self.held.add(wanted)
            archive.read()
            return super().load(archive)

    wanted = next(iter(place.engine.held))  # type: ignore[union-attr]
    admitter(place, book).admit("tiny")
    place.engine = engine = Forgetful()
    admitted = admitter(place, book).admit("tiny")
    assert (admitted.cached, admitted.image_id, engine.loads) == (True, wanted, 1)


def test_a_forgotten_verdict_is_made_anew(place: Harbour, book: Book) -> None:
    one = admitter(place, book)
    one.admit("tiny")
    one.forget("tiny")
    assert not one.admit("tiny").cached


def test_a_file_that_changes_while_it_is_verified_leaves_no_verdict(place: Harbour, book: Book) -> None:
    path = place.layer_path(place.layout.resolve("tiny:1"))

    class Meddled(FixedEngine):
        def image_id(self, ref: str) -> str | None:
            path.touch()  # after the bytes were read, before the verdict is written
            return super().image_id(ref)

    place.engine = Meddled(*place.engine.held)  # type: ignore[union-attr]
    admitter(place, book).admit("tiny")
    assert not admitter(place, book).admit("tiny").cached
