"""An image's papers: what they say, how they replace older ones, and what a server's listing may be."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from tinyimages import Layer, put_image

from harbourmaster.core.settings import PROJECT_ROOT
from policies.keys import SigningKey
from policies.statements import LISTING, SIGNATURE
from registry.build.errors import ListingFailed
from registry.build.records import BuildRecord, BuildRecords
from registry.listing import collect
from registry.oci import OciLayout, media
from registry.papers import attach
from registry.provenance import provenance
from registry.schema import load_entry
from registry.session import METHOD_NOT_FOUND, RpcError, Session

ENTRY = load_entry(PROJECT_ROOT / "registry" / "servers" / "time")
RECORD = BuildRecord(
    inputs="sha256:" + "1" * 64,
    manifest="sha256:" + "2" * 64,
    config="sha256:" + "3" * 64,
    install="sha256:" + "6" * 64,
    layer="sha256:" + "7" * 64,
    base="sha256:" + "4" * 64,
    builder="sha256:" + "5" * 64,
    base_origin="debian:trixie",
    materials=(("pkg:pypi/mcp@2.3.0", "sha256", "ab" * 32),),
    started="2026-01-01T00:00:00Z",
    finished="2026-01-01T00:00:07Z",
)


def statements(layout: OciLayout, digest: str) -> list[dict[str, Any]]:
    found = []
    for referrer in layout.referrers(digest):
        bundle = json.loads(layout.read_blob(layout.read_manifest(referrer.digest).layers[0].digest))
        found.append(json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"])))
    return found


def test_papers_name_the_manifest_they_speak_of(tmp_path: Path) -> None:
    layout = OciLayout(tmp_path)
    digest = put_image(layout, Layer([("a", b"1")]), tag="time:1")

    attach(layout, ENTRY, digest, {SIGNATURE: {}, LISTING: {"tools": []}}, SigningKey.generate())

    assert {s["predicateType"] for s in statements(layout, digest)} == {SIGNATURE, LISTING}
    assert {s["subject"][0]["digest"]["sha256"] for s in statements(layout, digest)} == {digest[7:]}
    kinds = {d.annotations[media.PREDICATE_TYPE_ANNOTATION] for d in layout.referrers(digest, media.SIGSTORE_BUNDLE)}
    assert kinds == {SIGNATURE, LISTING}


def test_new_papers_replace_our_older_ones_and_leave_other_peoples(tmp_path: Path) -> None:
    layout = OciLayout(tmp_path)
    digest = put_image(layout, Layer([("a", b"1")]), tag="time:1")
    ours, theirs = SigningKey.generate(), SigningKey.generate()
    attach(layout, ENTRY, digest, {LISTING: {"tools": ["theirs"]}}, theirs)

    for version in ("old", "new"):
        attach(layout, ENTRY, digest, {LISTING: {"tools": [version]}}, ours)

    assert sorted(s["predicate"]["tools"][0] for s in statements(layout, digest)) == ["new", "theirs"]


def test_provenance_says_from_what_by_whom_and_when() -> None:
    body = provenance(ENTRY, RECORD, versions={"builder": "1"}, invocation="urn:uuid:x", architecture="amd64")

    definition, run = body["buildDefinition"], body["runDetails"]
    assert definition["externalParameters"]["entry"]["source"]["sha256"] == ENTRY.source.sha256
    assert definition["resolvedDependencies"][0] == {"uri": "pkg:pypi/mcp@2.3.0", "digest": {"sha256": "ab" * 32}}
    assert {d["digest"]["sha256"] for d in definition["resolvedDependencies"][1:]} == {"4" * 64, "5" * 64}
    assert run["metadata"] == {"invocationId": "urn:uuid:x", "startedOn": RECORD.started, "finishedOn": RECORD.finished}
    assert run["builder"]["id"].startswith("https://")


def test_build_records_survive_a_round_trip_and_nonsense_counts_as_none(tmp_path: Path) -> None:
    records = BuildRecords(tmp_path)
    records.put("time", RECORD)

    assert records.all() == {"time": RECORD}

    (tmp_path / "builds.json").write_text('{"builds": {"time": {"surprise": 1}}}')
    assert records.all() == {}


class Scripted(Session):
    """A server that answers from a table: (method, cursor) -> result, or an error."""

    def __init__(self, initialized: dict[str, Any], answers: dict[tuple[str, str | None], Any]) -> None:
        super().__init__("scripted", 1.0)
        self.initialized, self._answers = initialized, answers

    async def request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        answer = self._answers[method, params.get("cursor")]
        if isinstance(answer, Exception):
            raise answer
        result: dict[str, Any] = answer
        return result


def hello(*capabilities: str) -> dict[str, Any]:
    return {"protocolVersion": "2025-11-25", "serverInfo": {"name": "s"}, "capabilities": {c: {} for c in capabilities}}


async def test_a_listing_has_all_pages_and_keeps_fields_that_we_do_not_know() -> None:
    tool = {"name": "a", "inputSchema": {}, "x-new": {"deep": [1, 2.5, None]}}
    answers = {
        ("tools/list", None): {"tools": [tool], "nextCursor": ""},  # an empty cursor is a cursor
        ("tools/list", ""): {"tools": [{"name": "b"}]},
    }

    listing = await collect(Scripted(hello("tools") | {"instructions": "Be kind"}, answers))

    assert listing["tools"] == [tool, {"name": "b"}]
    assert listing["instructions"] == "Be kind"
    assert listing["prompts"] == listing["resources"] == listing["resourceTemplates"] == []


async def test_lists_that_the_server_lacks_or_cannot_read_now_are_empty() -> None:
    answers = {
        ("resources/list", None): RpcError(-32603, "connect ECONNREFUSED"),
        ("resources/templates/list", None): RpcError(METHOD_NOT_FOUND, "no such method"),
    }

    listing = await collect(Scripted(hello("resources"), answers))

    assert listing["resources"] == listing["resourceTemplates"] == []


@pytest.mark.parametrize(
    "answer",
    [
        {"tools": [], "nextCursor": "same"},
        {"tools": "many"},
        {},
        RpcError(-32603, "broken"),
        {"tools": [{}] * 10_001, "nextCursor": "n"},
    ],
)
async def test_a_tool_list_that_is_broken_or_endless_is_no_listing(answer: Any) -> None:
    answers = {("tools/list", cursor): answer for cursor in (None, "same", "n")}

    with pytest.raises(ListingFailed):
        await collect(Scripted(hello("tools"), answers))
