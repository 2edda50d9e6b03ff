"""Known vulnerabilities: the right versions, the right severity, judged by today's advisories without building anything."""

from __future__ import annotations

import datetime
import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packageurl import PackageURL

from catalog import service
from catalog.entries import find_entry
from catalog.errors import EntryUnknown, SourceUnreadable, StatementInvalid
from catalog.evidence import record_evidence
from catalog.importer import import_offers
from catalog.records import EntryRecord, ImageRecord
from catalog.search.searcher import Searcher, SearchRequest
from catalog.store import Store
from catalog.vulnerabilities.advisories import import_advisories
from catalog.vulnerabilities.components import component_rows
from catalog.vulnerabilities.entries import EntryVulnerabilities, vulnerabilities_of
from catalog.vulnerabilities.matching import Match, Package, match
from catalog.vulnerabilities.osv import severity_of
from catalog.vulnerabilities.packages import of_ecosystem, of_purl
from catalog.vulnerabilities.ranges import Undecided, is_affected
from catalog.vulnerabilities.statements import state_not_affected, withdraw_statement
from harbourmaster.core.digests import sha256
from policies.evidence import AttestationFact, Evidence, Link, Signature

V31 = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
IMAGE = "sha256:" + "1" * 64


def advisory(identifier: str, ecosystem: str, name: str, *events: dict[str, str], **more: Any) -> dict[str, Any]:
    ranges = [{"type": "ECOSYSTEM", "events": list(events)}] if events else []
    affected = {
        "package": {"ecosystem": ecosystem, "name": name},
        "ranges": ranges,
        "versions": more.pop("versions", []),
    }
    return {
        "id": identifier,
        "modified": "2026-01-01T00:00:00Z",
        "summary": f"About {name}",
        "affected": [affected],
        **more,
    }


def write(folder: Path, *records: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    for record in records:
        (folder / f"{record['id']}.json").write_text(json.dumps(record))
    return folder


def package(purl: str) -> Package:
    parsed = PackageURL.from_string(purl)
    key = of_purl(parsed)
    return Package(purl, key.purl_type, key.namespace, key.name, parsed.version or "", key.release)


def matches(store: Store, *purls: str) -> list[Match]:
    with store.reading() as session:
        return match(session, [package(p) for p in purls])


SPAN = ({"introduced": "1.0"}, {"fixed": "1.5"}, {"introduced": "2.0"}, {"last_affected": "2.3"})


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ("0.9", False),
        ("1.0", True),
        ("1.0rc1", False),
        ("1.4.9", True),
        ("1.5rc1", True),
        ("1.5", False),
        ("1.10", False),
        ("2.0", True),
        ("2.3", True),
        ("2.3.post1", False),
        ("3", False),
    ],
)
def test_python_versions_lie_in_ranges_as_pep_440_orders_them(version: str, affected: bool) -> None:
    assert is_affected("pypi", version, [{"events": list(SPAN)}], []) is affected


@pytest.mark.parametrize(
    ("kind", "version", "events", "affected"),
    [
        ("npm", "1.9.0", [{"introduced": "0"}, {"fixed": "1.10.0"}], True),
        ("npm", "1.10.0", [{"introduced": "0"}, {"fixed": "1.10.0"}], False),
        ("npm", "1.10.0-beta.1", [{"introduced": "0"}, {"fixed": "1.10.0"}], True),
        ("npm", "9.9.9", [{"introduced": "0"}], True),
        ("deb", "1:2.3-1+deb12u1", [{"introduced": "0"}, {"fixed": "1:2.3-1+deb12u2"}], True),
        ("deb", "1:2.3-1+deb12u2", [{"introduced": "0"}, {"fixed": "1:2.3-1+deb12u2"}], False),
        ("deb", "2.4-1", [{"introduced": "0"}, {"fixed": "1:2.3-1"}], True),
        ("deb", "1.0~rc1-1", [{"introduced": "1.0-1"}], False),
        ("apk", "1.2.3-r4", [{"introduced": "0"}, {"fixed": "1.2.3-r5"}], True),
        ("golang", "v1.2.3", [{"introduced": "1.2.0"}, {"fixed": "1.2.4"}], True),
        ("maven", "1.0-alpha", [{"introduced": "0"}, {"fixed": "1.0"}], True),
        ("gem", "1.0.0.pre", [{"introduced": "0"}, {"fixed": "1.0.0"}], True),
        ("cargo", "0.3.0", [{"introduced": "0.2.0"}, {"fixed": "0.3.1"}], True),
        ("npm", "1.5.0", [{"introduced": "1.0.0"}, {"limit": "1.4.0"}], False),
    ],
)
def test_each_ecosystem_orders_versions_its_own_way(
    kind: str, version: str, events: list[dict[str, str]], affected: bool
) -> None:
    assert is_affected(kind, version, [{"events": events}], []) is affected
    assert is_affected(kind, version, [{"events": events[::-1]}], []) is affected, "whatever the order of events"


def test_a_listed_version_is_affected_however_it_is_written() -> None:
    assert is_affected("pypi", "1.0.0", [], ["1.0"])
    assert not is_affected("pypi", "1.0.1", [], ["1.0"])
    assert is_affected("pypi", "odd version", [], ["odd version"])


def test_a_version_that_cannot_be_compared_is_not_called_safe(store: Store, tmp_path: Path) -> None:
    with pytest.raises(Undecided):
        is_affected("pypi", "not a version", [{"events": [{"introduced": "0"}, {"fixed": "1"}]}], [])
    import_advisories(
        store, write(tmp_path / "a", advisory("TEST-1", "PyPI", "thing", {"introduced": "0"}, {"fixed": "1"}))
    )
    (hit,) = matches(store, "pkg:pypi/thing@not-a-version")
    assert hit.decided is False


@pytest.mark.parametrize(
    ("value", "rating", "score"),
    [
        ({"severity": [{"type": "CVSS_V3", "score": V31}]}, "critical", 9.8),
        ({"severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:H/PR:N/UI:R/S:U/C:L/I:N/A:N"}]}, "low", 3.1),
        (
            {
                "severity": [
                    {"type": "CVSS_V4", "score": "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"}
                ]
            },
            "critical",
            9.3,
        ),
        ({"severity": [{"type": "CVSS_V2", "score": "AV:N/AC:L/Au:N/C:P/I:P/A:P"}]}, "high", 7.5),
        (
            {"severity": [{"type": "CVSS_V3", "score": "nonsense"}], "database_specific": {"severity": "MODERATE"}},
            "medium",
            None,
        ),
        ({"severity": "HIGH"}, "unknown", None),
        ({}, "unknown", None),
    ],
)
def test_severity_comes_from_the_vector_or_the_databases_word(
    value: dict[str, Any], rating: str, score: float | None
) -> None:
    found = severity_of(value)
    assert (found.rating, found.score) == (rating, score)


@pytest.mark.parametrize(
    ("ecosystem", "name", "purl"),
    [
        ("PyPI", "Foo.Bar_baz", "pkg:pypi/foo-bar-baz@1"),
        ("npm", "@Scope/Name", "pkg:npm/%40scope/name@1"),
        ("Maven", "org.example:thing", "pkg:maven/org.example/thing@1"),
        ("Go", "github.com/a/b", "pkg:golang/github.com/a/b@v1.0.0"),
        ("Debian:12", "openssl", "pkg:deb/debian/openssl@3.0?distro=debian-12"),
        ("Alpine:v3.18", "busybox", "pkg:apk/alpine/busybox@1?distro=alpine-3.18.4"),
        ("crates.io", "serde", "pkg:cargo/serde@1"),
    ],
)
def test_advisories_and_sboms_mean_the_same_package(ecosystem: str, name: str, purl: str) -> None:
    assert of_ecosystem(ecosystem, name) == of_purl(PackageURL.from_string(purl))


def test_a_distribution_package_is_matched_by_source_and_release(store: Store, tmp_path: Path) -> None:
    bookworm = advisory("DSA-1", "Debian:12", "openssl", {"introduced": "0"}, {"fixed": "3.0.15-1"})
    trixie = advisory("DSA-2", "Debian:13", "openssl", {"introduced": "0"}, {"fixed": "9"})
    import_advisories(store, write(tmp_path / "a", bookworm, trixie))
    sbom = {
        "components": [
            {
                "name": "libssl3",
                "purl": "pkg:deb/debian/libssl3@3.0.14-1?arch=amd64&distro=debian-12",
                "properties": [
                    {"name": "harbourmaster:deb.source", "value": "openssl"},
                    {"name": "harbourmaster:deb.source.version", "value": "3.0.14-1"},
                ],
            }
        ]
    }
    (row,) = component_rows("", sbom)
    with store.reading() as session:
        found = match(session, [Package(*(row[k] for k in Package.__slots__))])
    assert [m.ids[0] for m in found] == ["DSA-1"]


def test_records_of_one_vulnerability_are_one_match_with_the_known_severity(store: Store, tmp_path: Path) -> None:
    one = advisory("PYSEC-1", "PyPI", "thing", {"introduced": "0"}, {"fixed": "2"}, aliases=["CVE-1"])
    two = advisory(
        "GHSA-1",
        "PyPI",
        "thing",
        {"introduced": "0"},
        {"fixed": "2"},
        aliases=["CVE-1"],
        severity=[{"type": "CVSS_V3", "score": V31}],
    )
    import_advisories(store, write(tmp_path / "a", one, two))
    (hit,) = matches(store, "pkg:pypi/thing@1.0")
    assert set(hit.ids) == {"PYSEC-1", "GHSA-1", "CVE-1"}
    assert (hit.severity, hit.score, hit.fixed_in) == ("critical", 9.8, ("2",))


def test_withdrawn_advisories_say_nothing(store: Store, tmp_path: Path) -> None:
    record = advisory("TEST-1", "PyPI", "thing", {"introduced": "0"}, withdrawn="2026-02-01T00:00:00Z")
    import_advisories(store, write(tmp_path / "a", record))
    assert matches(store, "pkg:pypi/thing@1.0") == []


def test_a_newer_record_replaces_an_older_and_an_older_changes_nothing(store: Store, tmp_path: Path) -> None:
    folder = write(tmp_path / "a", advisory("TEST-1", "PyPI", "thing", {"introduced": "0"}))
    assert import_advisories(store, folder).added == 1
    assert import_advisories(store, folder).unchanged == 1
    write(
        folder,
        advisory("TEST-1", "PyPI", "thing", {"introduced": "0"}, {"fixed": "1"}, modified="2026-03-01T00:00:00Z"),
    )
    assert import_advisories(store, folder).changed == 1
    assert matches(store, "pkg:pypi/thing@1.0") == []
    write(folder, advisory("TEST-1", "PyPI", "thing", {"introduced": "0"}))
    assert import_advisories(store, folder).older == 1
    assert matches(store, "pkg:pypi/thing@1.0") == []


def test_folders_zips_and_tars_hold_the_same_records(store: Store, tmp_path: Path) -> None:
    data = json.dumps(advisory("TEST-1", "PyPI", "thing", {"introduced": "0"})).encode()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/TEST-1.json").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("deep/TEST-1.json", data)
    for name, mode in (("all.tar.xz", "w:xz"), ("all.tar.gz", "w:gz"), ("all.tar", "w")):
        with tarfile.open(tmp_path / name, mode) as tar:
            info = tarfile.TarInfo("../../TEST-1.json")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert import_advisories(store, tmp_path / "folder").added == 1
    for name in ("all.zip", "all.tar.xz", "all.tar.gz", "all.tar"):
        assert import_advisories(store, tmp_path / name).unchanged == 1, name


def test_what_is_no_advisory_is_named_and_the_rest_is_read(store: Store, tmp_path: Path) -> None:
    folder = write(tmp_path / "a", advisory("TEST-1", "PyPI", "thing", {"introduced": "0"}))
    for name, text in {
        "a.json": "{",
        "b.json": "[]",
        "c.yaml": "a: &a [*a]",
        "d.json": '{"id": "X Y", "modified": ""}',
        "e.json": '{"id": "TEST-2"}',
    }.items():
        (folder / name).write_text(text)
    (folder / "big.json").write_bytes(b" " * (5 << 20))
    report = import_advisories(store, folder)
    assert report.added == 1
    assert sorted(report.unread) == ["a.json", "b.json", "big.json", "c.yaml", "d.json", "e.json"]
    for bad in ("absent", "text"):
        (tmp_path / "text").write_text("no archive")
        with pytest.raises(SourceUnreadable):
            import_advisories(store, tmp_path / bad)


def test_the_real_advisories_of_python_packages(sqlite_store: Store, shared_data: Path) -> None:
    place = shared_data / "pypa-advisories.tar.xz"
    if not place.is_file():
        pytest.skip(f"no advisories at {place}")
    with tarfile.open(place) as archive:
        count = sum(m.name.endswith(".yaml") for m in archive)
    report = import_advisories(sqlite_store, place)
    assert (report.added, report.unread) == (count, {})
    found = {
        m.ids[0]: m
        for m in matches(sqlite_store, "pkg:pypi/jinja2@2.11.2", "pkg:pypi/urllib3@1.26.4", "pkg:pypi/requests@2.31.0")
    }
    assert {"PYSEC-2021-66", "PYSEC-2023-192", "PYSEC-2021-108"} <= set(found)
    assert found["PYSEC-2021-66"].fixed_in == ("2.11.3",)
    assert found["PYSEC-2023-192"].severity == "high"
    assert "CVE-2020-28493" in found["PYSEC-2021-66"].ids
    assert matches(sqlite_store, "pkg:pypi/jinja2@2.11.3", "pkg:pypi/urllib3@2.0.7") == []


# -- entries


def evidence(*purls: str) -> Evidence:
    signature = Signature("key", key_id=sha256(b"key"))
    sbom = {"components": [{"name": "x", "purl": p} for p in purls]}
    listing = {
        "tools": [{"name": "look", "description": "Looks", "inputSchema": {}, "annotations": {"readOnlyHint": True}}]
    }
    return Evidence(
        "thing",
        "built",
        IMAGE,
        IMAGE,
        IMAGE,
        (Link("signature", "thing", "signed", IMAGE, "trust rule 1"),),
        signature,
        sbom=AttestationFact("https://cyclonedx.org/bom", sha256(b"sbom"), signature, sbom),
        listing=AttestationFact("listing", sha256(b"listing"), signature, listing),
        verified_at=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    )


@pytest.fixture
def thing(store: Store, tmp_path: Path) -> Store:
    source = service.add_source(store, "made", "mcp-registry", str(tmp_path))
    record = EntryRecord(
        "thing", "Thing", "Does", "server", "other", "built", "1", b"doc", "text/plain", sha256(b"doc")
    )
    record = EntryRecord(
        **{**{f: getattr(record, f) for f in EntryRecord.__slots__}, "images": (ImageRecord("thing:1", IMAGE),)}
    )
    import_offers(store, source.id or 0, [record], complete=True, now=service.utc_now())
    return store


def judged(store: Store) -> EntryVulnerabilities:
    with store.reading() as session:
        return vulnerabilities_of(session, find_entry(session, "thing"))


def test_without_an_sbom_nobody_knows(thing: Store) -> None:
    assert (judged(thing).known, judged(thing).matches) == (False, [])
    assert Searcher(thing).search(SearchRequest("thing")).hits[0].card.vulnerable is None


def test_verified_evidence_is_kept_shown_and_searched_by(thing: Store) -> None:
    record_evidence(thing, evidence("pkg:pypi/lib@1.0"))
    record_evidence(thing, evidence("pkg:pypi/lib@1.0"))
    (card,) = [
        h.card
        for h in Searcher(thing)
        .search(SearchRequest("", {"evidence": ("signed", "sbom", "no-known-vulnerabilities")}))
        .hits
    ]
    assert card.evidence == ("listing", "sbom", "signature")
    assert (card.tools, card.read_only) == (1, True)


def test_a_new_advisory_is_judged_without_building_and_a_mended_one_too(thing: Store, tmp_path: Path) -> None:
    record_evidence(thing, evidence("pkg:pypi/lib@1.0", "pkg:npm/other@2.0.0"))
    searcher = Searcher(thing)
    assert searcher.search(SearchRequest("thing")).hits[0].card.vulnerable is False
    folder = write(tmp_path / "a", advisory("TEST-1", "PyPI", "lib", {"introduced": "0"}))
    import_advisories(thing, folder)
    assert [m.ids[0] for m in judged(thing).affecting] == ["TEST-1"]
    assert searcher.search(SearchRequest("thing")).hits[0].card.vulnerable is True
    write(folder, advisory("TEST-1", "PyPI", "lib", {"introduced": "2"}, modified="2026-05-01T00:00:00Z"))
    import_advisories(thing, folder)
    assert searcher.search(SearchRequest("thing")).hits[0].card.vulnerable is False


def test_not_affected_because_needs_a_reason_and_can_be_taken_back(thing: Store, tmp_path: Path) -> None:
    record_evidence(thing, evidence("pkg:pypi/lib@1.0"))
    import_advisories(
        thing, write(tmp_path / "a", advisory("TEST-1", "PyPI", "lib", {"introduced": "0"}, aliases=["CVE-9"]))
    )
    because = "vulnerable_code_not_in_execute_path"
    for wrong in ({"justification": "it_is_fine"}, {"statement": "short"}, {"statement": "hidden \u202e text here"}):
        values = {"justification": because, "statement": "The parser is never called here.", **wrong}
        with pytest.raises(StatementInvalid):
            state_not_affected(
                thing, "thing", "CVE-9", values["justification"], values["statement"], "me", service.utc_now()
            )
    with pytest.raises(EntryUnknown):
        state_not_affected(
            thing, "nothing", "CVE-9", because, "The parser is never called here.", "me", service.utc_now()
        )
    state_not_affected(thing, "thing", "CVE-9", because, "The parser is never called here.", "me", service.utc_now())
    assert [m.not_affected for m in judged(thing).matches] == [because]
    assert judged(thing).affecting == []
    assert Searcher(thing).search(SearchRequest("thing")).hits[0].card.vulnerable is False
    withdraw_statement(thing, "thing", "CVE-9")
    assert len(judged(thing).affecting) == 1
    with pytest.raises(StatementInvalid):
        withdraw_statement(thing, "thing", "CVE-9")
