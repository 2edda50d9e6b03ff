"""Admission: default deny, per tier; every refusal names its policies and what would change it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from harbourmaster.core.settings import Settings
from policies.admission import EntryFacts, admit, decide
from policies.errors import AdmissionDenied, PolicyInvalid
from policies.evidence import Evidence, Vulnerabilities
from policies.policy_set import PolicySet, builtin_files, builtin_schema

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
FACTS = EntryFacts(now=NOW)


@pytest.fixture(scope="module")
def policies() -> PolicySet:
    return PolicySet.builtin()


def with_own(text: str) -> PolicySet:
    return PolicySet((*builtin_files(), ("own.cedar", text)), builtin_schema())


def denied(evidence: Evidence, facts: EntryFacts, policies: PolicySet) -> AdmissionDenied:
    with pytest.raises(AdmissionDenied) as caught:
        admit(evidence, facts, policies)
    assert caught.value.code == "admission.denied"
    assert caught.value.remedy
    return caught.value


def test_a_fully_papered_built_image_is_admitted_by_name_of_the_policy(evidence: Evidence, policies: PolicySet) -> None:
    verdict = admit(evidence, FACTS, policies)
    assert verdict.policies == ("built.admit",)
    assert verdict.policy_set == policies.digest


@pytest.mark.parametrize("paper", ["signature", "sbom", "provenance", "listing"])
def test_a_built_image_without_one_of_its_papers_is_refused(
    evidence: Evidence, policies: PolicySet, paper: str
) -> None:
    missing: dict[str, Any] = {paper: None}
    error = denied(replace(evidence, **missing), FACTS, policies)
    assert error.details["policies"] == [f"built.{paper}-required"]
    assert "hm registry build time" in error.remedy


def test_all_reasons_are_named_at_once(evidence: Evidence, policies: PolicySet) -> None:
    error = denied(replace(evidence, sbom=None, listing=None), FACTS, policies)
    assert sorted(error.details["policies"]) == ["built.listing-required", "built.sbom-required"]
    assert [reason["remedy"] for reason in error.details["reasons"]]


@pytest.mark.parametrize("tier", ["", "any", "Built", "built ", "gold"])
def test_an_unknown_tier_is_denied_by_default(evidence: Evidence, policies: PolicySet, tier: str) -> None:
    error = denied(replace(evidence, tier=tier), FACTS, policies)
    assert error.details["policies"] == ["default-deny"]


def test_a_community_image_needs_its_origin_and_an_sbom(evidence: Evidence, policies: PolicySet) -> None:
    community = replace(evidence, tier="community", provenance=None, listing=None)
    assert admit(community, FACTS, policies).policies == ("community.admit",)
    unsigned = replace(community, signature=None)
    assert admit(unsigned, replace(FACTS, digest_pinned=True), policies).allowed
    assert denied(unsigned, FACTS, policies).details["policies"] == ["community.origin-required"]
    without = replace(community, sbom=None)
    assert denied(without, FACTS, policies).details["policies"] == ["community.sbom-required"]


def test_a_built_image_is_not_let_in_by_a_pinned_digest(evidence: Evidence, policies: PolicySet) -> None:
    denied(replace(evidence, signature=None), replace(FACTS, digest_pinned=True), policies)


@pytest.mark.parametrize(("severity", "allowed"), [("none", True), ("high", True), ("critical", False)])
def test_a_known_critical_vulnerability_is_refused(
    evidence: Evidence, policies: PolicySet, severity: Any, allowed: bool
) -> None:
    found = replace(evidence, vulnerabilities=Vulnerabilities(severity))
    assert decide(found, FACTS, policies).allowed is allowed


@pytest.mark.parametrize(
    ("age", "allowed"),
    [(timedelta(0), True), (timedelta(days=30), True), (timedelta(days=31), False), (timedelta(hours=-1), False)],
)
def test_evidence_ages_and_does_not_come_from_the_future(
    evidence: Evidence, policies: PolicySet, age: timedelta, allowed: bool
) -> None:
    assert decide(replace(evidence, verified_at=NOW - age), FACTS, policies).allowed is allowed


def test_age_is_judged_at_the_moment_of_asking_unless_a_time_is_given(evidence: Evidence, policies: PolicySet) -> None:
    facts = EntryFacts()
    assert decide(replace(evidence, verified_at=datetime.now(UTC)), facts, policies).allowed
    assert not decide(replace(evidence, verified_at=datetime(2020, 1, 1, tzinfo=UTC)), facts, policies).allowed


def test_evidence_that_was_never_verified_is_refused(evidence: Evidence, policies: PolicySet) -> None:
    error = denied(replace(evidence, verified_at=None), FACTS, policies)
    assert error.details["policies"] == ["any.evidence-stale"]


def test_relaxations_of_a_community_image_need_a_persons_approval(evidence: Evidence, policies: PolicySet) -> None:
    community = replace(evidence, tier="community")
    asked = replace(FACTS, relaxations=("writable-root", "user-root"))
    assert denied(community, asked, policies).details["policies"] == ["community.relaxation-unapproved"]
    part = replace(asked, approved_relaxations=("user-root",))
    assert not decide(community, part, policies).allowed
    assert decide(community, replace(asked, approved_relaxations=asked.relaxations), policies).allowed


@pytest.mark.parametrize("tier", ["built", "community"])
@pytest.mark.parametrize("relaxation", ["privileged", "host-network", "engine-socket"])
def test_some_relaxations_are_never_allowed(
    evidence: Evidence, policies: PolicySet, tier: str, relaxation: str
) -> None:
    facts = replace(FACTS, relaxations=(relaxation,), approved_relaxations=(relaxation,))
    assert "any.relaxation-never" in denied(replace(evidence, tier=tier), facts, policies).details["policies"]


def test_a_persons_own_policy_may_forbid_more(evidence: Evidence) -> None:
    own = with_own(
        '@id("own.no-key") @reason("we want keyless only") @remedy("sign it in CI")\n'
        'forbid (principal, action, resource) when { context.signature_kind == "key" };'
    )
    error = denied(evidence, FACTS, own)
    assert error.details["reasons"] == [
        {"policy": "own.no-key", "reason": "we want keyless only", "remedy": "sign it in CI"}
    ]


def test_a_persons_own_permit_does_not_outweigh_a_forbid_of_ours(evidence: Evidence) -> None:
    own = with_own('@id("own.all") permit (principal, action, resource);')
    assert decide(replace(evidence, tier="gold"), FACTS, own).policies == ("own.all",)
    assert decide(replace(evidence, sbom=None), FACTS, own).policies == ("built.sbom-required",)


def test_a_policy_may_name_a_server_or_an_image(evidence: Evidence) -> None:
    own = with_own('@id("own.time") forbid (principal == Server::"time", action, resource);')
    assert decide(evidence, FACTS, own).policies == ("own.time",)
    assert decide(replace(evidence, name="other"), FACTS, own).allowed


def test_a_policy_that_fails_to_evaluate_denies(evidence: Evidence) -> None:
    own = with_own(
        '@id("own.overflow") forbid (principal, action, resource) '
        "when { (context.evidence_age_s + 1) * 9223372036854775807 * 2 > 5 };"
    )
    verdict = decide(replace(evidence, verified_at=NOW - timedelta(seconds=9)), FACTS, own)
    assert not verdict.allowed
    assert verdict.policies == ("policy-error",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("permit (", "unexpected"),
        ("permit (principal, action, resource);", "no @id"),
        ('@id("") permit (principal, action, resource);', "no @id"),
        ('@id("x") permit (principal, action, resource) when { context.tierr == "a" };', "tierr"),
        ('@id("x") permit (principal, action, resource) when { context.tier == 5 };', ""),
        ('@id("x") permit (principal, action, resource) when { context.vulnerabilities.max_rank < 3 };', ""),
        ('@id("x") permit (principal == Robot::"a", action, resource);', "Robot"),
        ('@id("x") permit (principal == ?principal, action, resource);', "template"),
        ('@id("built.admit") permit (principal, action, resource);', "two policies have the id"),
        ('@id("x") permit (principal, action, resource);\n@id("x") forbid (principal, action, resource);', "two"),
    ],
)
def test_a_wrong_policy_file_is_refused_by_name(text: str, says: str) -> None:
    with pytest.raises(PolicyInvalid) as refused:
        with_own(text)
    assert refused.value.code == "policy.invalid"
    assert "own.cedar" in refused.value.message
    assert says in refused.value.message


def test_own_files_in_the_home_are_added_and_change_the_digest(settings: Settings) -> None:
    before = PolicySet.load(settings)
    folder = settings.home / "policies"
    folder.mkdir(parents=True)
    (folder / "mine.cedar").write_text('@id("mine") forbid (principal, action, resource);')
    after = PolicySet.load(settings)
    mine = after.get("mine")
    assert mine is not None
    assert mine.source == str(folder / "mine.cedar")
    assert before.digest != after.digest
    (folder / "mine.cedar").write_bytes(b"\xff")
    with pytest.raises(PolicyInvalid, match=r"mine\.cedar"):
        PolicySet.load(settings)


def test_every_policy_of_ours_says_why_and_what_would_change_it(policies: PolicySet) -> None:
    for policy in policies.policies:
        assert not policy.reason.startswith("policy "), policy.id
        assert policy.effect == "permit" or not policy.remedy.startswith("change the policy"), policy.id
        assert Path(policy.source).stem == policy.id.split(".")[0]


def test_evidence_as_json_leaves_predicates_out(evidence: Evidence) -> None:
    body = replace(evidence, vulnerabilities=Vulnerabilities("low", checked_at=NOW)).as_dict()
    assert "predicate" not in body["sbom"]
    assert body["verified_at"] == body["vulnerabilities"]["checked_at"] == NOW.isoformat()
