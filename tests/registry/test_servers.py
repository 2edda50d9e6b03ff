"""Every starter server: built, papered, listed, and called in the sandbox that it will run in."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from conftest import Starters

from harbourmaster.core.settings import PROJECT_ROOT
from policies.statements import LISTING, PROVENANCE, SBOM, SIGNATURE
from registry.oci import media
from registry.pipeline import build_all
from registry.schema import Call
from registry.trial import judge, try_calls

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1500)]  # the first one builds all servers
NAMES = sorted(p.parent.name for p in (PROJECT_ROOT / "registry" / "servers").glob("*/server.yaml"))


def predicates(starters: Starters, name: str) -> dict[str, Any]:
    layout, found = starters.layout, {}
    for referrer in layout.referrers(starters.results[name].manifest, media.SIGSTORE_BUNDLE):
        bundle = json.loads(layout.read_blob(layout.read_manifest(referrer.digest).layers[0].digest))
        statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
        found[statement["predicateType"]] = statement["predicate"]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_server_is_built_and_answers_every_call_that_its_entry_promises(starters: Starters, name: str) -> None:
    result = starters.results[name]
    assert result.error is None, result.error

    outcomes = try_calls(starters.engine, starters.entries[name], result.image_id, result.manifest, timeout_s=60)

    assert outcomes
    assert [(o.tool, o.problem, o.text) for o in outcomes if not o.passed] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_server_has_all_four_papers_and_they_know_its_package(starters: Starters, name: str) -> None:
    source, papers = starters.entries[name].source, predicates(starters, name)

    assert set(papers) == {SIGNATURE, SBOM, PROVENANCE, LISTING}
    called = {call.tool for call in starters.entries[name].test.calls}
    assert called <= {tool["name"] for tool in papers[LISTING]["tools"]}
    packages = {(c.get("group", ""), c["name"], c.get("version")) for c in papers[SBOM]["components"]}
    assert any(source.package.endswith(n) and v == source.version for _, n, v in packages), sorted(packages)[:40]
    resolved = {d["uri"]: d["digest"] for d in papers[PROVENANCE]["buildDefinition"]["resolvedDependencies"]}
    uri = next(u for u in resolved if u.replace("%40", "@").endswith(f"{source.package}@{source.version}"))
    assert source.sha256 is None or resolved[uri] == {"sha256": source.sha256}


@pytest.mark.parametrize("name", NAMES)
def test_the_engine_holds_the_image_that_the_manifest_names_and_it_runs_as_nobody(
    starters: Starters, name: str
) -> None:
    result = starters.results[name]
    manifest = starters.layout.read_manifest(result.manifest)

    inspected = starters.engine.client.api.inspect_image(result.image_id)  # type: ignore[no-untyped-call]

    assert inspected["Id"] in (manifest.config.digest, manifest.digest)
    assert inspected["Config"]["User"] == "65532:65532"
    assert inspected["RootFS"]["Layers"] == [layer.digest for layer in manifest.layers]
    assert starters.layout.resolve(starters.entries[name].ref) == result.manifest


def test_a_second_run_does_nothing_at_all(starters: Starters) -> None:
    records = (starters.settings.home / "builds.json").stat()
    stages: list[tuple[str, str, float]] = []

    again = build_all(
        starters.settings, starters.engine, starters.entries.values(), lambda *stage: stages.append(stage)
    )

    assert stages == []
    assert {n: r.manifest for n, r in again.items()} == {n: r.manifest for n, r in starters.results.items()}
    assert not any(r.fresh for r in again.values())
    assert (starters.settings.home / "builds.json").stat().st_mtime_ns == records.st_mtime_ns


def test_a_call_is_judged_by_what_its_entry_expects() -> None:
    call = Call.model_validate({"tool": "t", "expect": {"contains": "ahoy", "is_error": True}})

    assert judge(call, True, "no ahoy") == ""
    assert "got a result" in judge(call, False, "ahoy")
    assert "does not contain" in judge(call, True, "silence")
