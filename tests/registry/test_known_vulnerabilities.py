"""Known vulnerabilities in a submission's image: a verdict in the report, and what its entry says about them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ociserver import OciServer

from catalog.entries import find_entry
from catalog.evidence import verify_entries
from catalog.service import add_source, sync_source
from catalog.store import Store
from catalog.vulnerabilities.advisories import import_advisories
from catalog.vulnerabilities.entries import vulnerabilities_of
from harbourmaster.core.settings import Settings
from harbourmaster.up.advisories import examining
from registry.build.errors import EntryInvalid
from registry.check import Checker
from registry.known import Examined, Known, judged
from registry.oci.importer import import_engine_image
from registry.oci.layout import OciLayout
from registry.oci.remote import Remote
from registry.places import adopted_dir
from registry.report import EntryReport, Report, Verdict
from registry.schema import parse_entry
from registry.vex import NotAffected
from sandbox.engine import Engine
from sandbox.profile import Profile
from tests.fixtures.images import ECHO_SOURCE, build_image, remove_loaded

ENTRY = """\
name: echo
type: server
tier: community
about: {{title: Echo, description: Says back what it is told.}}
meta: {{category: utilities}}
image: {image}
"""
SAID = """\
not_affected:
  - vulnerability: CVE-2026-1
    because: vulnerable_code_not_in_execute_path
    statement: The anchor is never dropped by this server.
"""


def advisory(identifier: str, *, fixed: str = "", severity: str = "HIGH", aliases: tuple[str, ...] = ()) -> bytes:
    events = [{"introduced": "0"}, *([{"fixed": fixed}] if fixed else [])]
    package = {"ecosystem": "PyPI", "name": "anchor"}
    body = {
        "id": identifier,
        "modified": "2026-01-01T00:00:00Z",
        "aliases": list(aliases),
        "summary": "Anchors <b>drag</b>",
        "database_specific": {"severity": severity},
        "affected": [{"package": package, "ranges": [{"type": "ECOSYSTEM", "events": events}]}],
    }
    return json.dumps(body).encode()


def known(
    identifier: str = "CVE-2026-1", severity: str = "high", fixed: tuple[str, ...] = ("3.0",), *more: str
) -> Known:
    return Known((identifier, *more), severity, 7.5 if severity == "high" else None, "anchor", "2.1", fixed)


def said(vulnerability: str = "CVE-2026-1") -> NotAffected:
    statement = "The anchor is never dropped by this server."
    return NotAffected(vulnerability=vulnerability, because="vulnerable_code_not_in_execute_path", statement=statement)


def words(*found: Known, answers: tuple[NotAffected, ...] = ()) -> list[str]:
    verdicts, _ = judged(Examined(10, 40, found), answers)
    return [v.word for v in verdicts]


def test_what_a_newer_package_mends_fails_and_what_nothing_mends_is_looked_at() -> None:
    assert words() == ["pass"]
    assert words(known()) == ["fail"]
    assert words(known(severity="critical")) == ["fail"]
    assert words(known(severity="unknown")) == ["fail"], "nobody said that it is harmless"
    assert words(known(fixed=())) == ["warn"]
    assert words(known(severity="medium")) == ["warn"]


def test_a_reason_why_not_counts_under_any_of_its_names() -> None:
    assert words(known(), answers=(said(),)) == ["pass"]
    assert words(known("PYSEC-2026-9", "high", ("3",), "CVE-2026-1"), answers=(said(),)) == ["pass"]
    assert words(known(), known("CVE-2026-2"), answers=(said(),)) == ["fail"]
    _, lines = judged(Examined(10, 40, (known(),)), (said(),))
    assert "because the vulnerable code never runs: The anchor is never dropped" in lines[0]


def test_a_reason_for_what_is_not_there_is_advised_away() -> None:
    assert words(answers=(said("CVE-2020-1"),)) == ["pass", "warn"]


def test_without_advisories_nothing_passes() -> None:
    assert judged(Examined(0, 40, ()), ())[0][0].word == "skip"


def test_what_an_advisory_says_is_harmless_in_the_report() -> None:
    verdicts, lines = judged(Examined(1, 1, (known("CVE-1](http://x)<img src=x>"),)), ())
    text = Report([EntryReport("echo", verdicts, {"Known vulnerabilities": lines})]).markdown()
    assert "<img" not in text
    assert "](http" not in text


@pytest.mark.parametrize(
    "text",
    [
        SAID.replace("CVE-2026-1", "everything"),
        SAID.replace("vulnerable_code_not_in_execute_path", "trust_me"),
        SAID.replace("The anchor is never dropped by this server.", "no"),
        SAID + "    by: me\n",
    ],
)
def test_a_reason_is_an_identifier_a_justification_and_a_sentence(text: str) -> None:
    image = "127.0.0.1:5000/acme/echo:1@sha256:" + "7" * 64
    with pytest.raises(EntryInvalid):
        parse_entry(Path("echo/server.yaml"), (ENTRY.format(image=image) + text).encode())


@dataclass(frozen=True)
class Submission:
    settings: Settings
    engine: Engine
    folder: Path
    image: str

    def write(self, more: str = "") -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "server.yaml").write_text(ENTRY.format(image=self.image) + more)

    def check(self) -> tuple[list[Verdict], list[str]]:
        with examining(self.settings) as examine:
            report = Checker(self.settings, self.engine, Profile.load(), examine=examine).check(self.folder)
        found = [v for v in report.verdicts if v.check == "vulnerabilities"]
        return found, report.sections.get("Known vulnerabilities", [])


@pytest.fixture
def submission(tidy_engine: Engine, settings: Settings, tmp_path: Path) -> Iterator[Submission]:
    """An image with one Python package in it."""
    metadata = b"Metadata-Version: 2.1\nName: anchor\nVersion: 2.1\n"
    place = "usr/lib/python3/dist-packages/anchor-2.1.dist-info/METADATA"
    image = build_image(tidy_engine, "hm-test-anchor", ECHO_SOURCE, files={place: (metadata, 0o644)})
    layout = OciLayout(tmp_path / "publisher")
    digest = import_engine_image(tidy_engine.client, image, layout)
    with OciServer() as server:
        Remote().push(layout, digest, f"{server.host}/acme/echo:1")
        found = Submission(settings, tidy_engine, tmp_path / "servers" / "echo", f"{server.host}/acme/echo:1@{digest}")
        found.write()
        yield found
    remove_loaded(tidy_engine, "hm-test-anchor")


@pytest.mark.engine
def test_a_check_compares_the_built_sbom_with_the_advisories_as_they_are_now(
    submission: Submission, tmp_path: Path
) -> None:
    (skipped,), _ = submission.check()
    assert skipped.word == "skip"

    place = tmp_path / "advisories"
    place.mkdir()
    (place / "one.json").write_bytes(advisory("PYSEC-2026-9", fixed="3.0", aliases=("CVE-2026-1",)))
    store = Store.open(submission.settings)
    import_advisories(store, place)
    (failed,), lines = submission.check()
    assert failed.word == "fail"
    assert "anchor 2.1, fixed in 3.0" in failed.detail
    assert lines == ["affected: PYSEC-2026-9 (high) in anchor 2.1, fixed in 3.0"]

    submission.write(SAID)
    (passed,), lines = submission.check()
    assert passed.word == "pass"
    assert lines[0].startswith("not affected: PYSEC-2026-9")
    store.close()


@pytest.mark.engine
def test_the_catalog_takes_the_word_of_entries_that_were_reviewed_here(submission: Submission, tmp_path: Path) -> None:
    place = tmp_path / "advisories"
    place.mkdir()
    (place / "one.json").write_bytes(advisory("PYSEC-2026-9", fixed="3.0", aliases=("CVE-2026-1",)))
    submission.check()
    store = Store.open(submission.settings)
    try:
        import_advisories(store, place)
        add_source(store, "ours", "servers", str(submission.folder.parent))
        mine = adopted_dir(submission.settings) / "echo"
        mine.parent.mkdir(parents=True, exist_ok=True)
        mine.symlink_to(submission.folder)
        for more, affecting in (("", 1), (SAID, 0)):
            submission.write(more)
            submission.check()
            sync_source(store, submission.settings, "ours")
            assert verify_entries(store, submission.settings, "ours") == {"echo": ""}
            with store.reading() as session:
                found = vulnerabilities_of(session, find_entry(session, "echo"))
            assert (len(found.matches), len(found.affecting)) == (1, affecting)
            assert found.matches[0].stated_by == ("" if affecting else "the entry")
    finally:
        store.close()
