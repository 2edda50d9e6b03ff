"""May this image run?  Cedar decides, with the evidence as context; the answer names the policies that decided.

Default deny: an image runs only where a ``permit`` matches and no ``forbid`` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from policies.errors import AdmissionDenied
from policies.evidence import SEVERITIES, Evidence
from policies.policy_set import Policy, PolicySet

DEFAULT_DENY = "default-deny"  # named where no policy matched at all
_NEVER_VERIFIED = 1 << 53  # seconds; older than any threshold


@dataclass(frozen=True)
class EntryFacts:
    """What the entry says and people decided, beside the evidence.

    ``relaxations``: names of the sandbox relaxations asked for; ``approved_relaxations``: those a person approved;
    ``digest_pinned``: the entry names the image by its publisher's digest; ``licences``: SPDX expressions; ``hosts``: the
    ``host:port`` rules it asks for; ``now``: the
    time to judge ages by, the moment of asking where it is None.
    """

    relaxations: tuple[str, ...] = ()
    approved_relaxations: tuple[str, ...] = ()
    digest_pinned: bool = False
    licences: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    now: datetime | None = None


@dataclass(frozen=True)
class Reason:
    """One policy's say: its id, why it decided, what would change it."""

    policy: str
    reason: str
    remedy: str


@dataclass(frozen=True)
class Verdict:
    """``policies``: ids of those that decided; ``policy_set``: digest of all that were asked."""

    allowed: bool
    policies: tuple[str, ...]
    reasons: tuple[Reason, ...]
    policy_set: str

    @property
    def summary(self) -> str:
        return "; ".join(f"{reason.reason} ({reason.policy})" for reason in self.reasons)


def admit(evidence: Evidence, facts: EntryFacts, policies: PolicySet) -> Verdict:
    """The verdict where it is yes; raises ``AdmissionDenied`` naming the policies where it is no."""
    verdict = decide(evidence, facts, policies)
    if verdict.allowed:
        return verdict
    raise AdmissionDenied(
        f"{evidence.name} (tier {evidence.tier}) may not run: {verdict.summary}",
        remedy="; ".join(dict.fromkeys(reason.remedy for reason in verdict.reasons)).replace("NAME", evidence.name),
        server=evidence.name,
        image=evidence.image,
        policies=list(verdict.policies),
        reasons=[{"policy": r.policy, "reason": r.reason, "remedy": r.remedy} for r in verdict.reasons],
        policy_set=verdict.policy_set,
    )


def decide(evidence: Evidence, facts: EntryFacts, policies: PolicySet) -> Verdict:
    """As ``admit``, for those who want to see a no without an exception."""
    allowed, deciding, errors = policies.evaluate(request(evidence, facts))
    reasons = tuple(_reason(policy) for policy in deciding if allowed or policy.effect == "forbid")
    if errors:
        reasons = (
            *reasons,
            *(Reason("policy-error", error, "correct the policy: hm policy check") for error in errors),
        )
    if not reasons:
        why = f"no policy permits an image of tier {evidence.tier!r} with this evidence"
        reasons = (Reason(DEFAULT_DENY, why, "see which policies there are: hm policy ls"),)
    return Verdict(allowed, tuple(reason.policy for reason in reasons), reasons, policies.digest)


def request(evidence: Evidence, facts: EntryFacts) -> dict[str, Any]:
    """The Cedar request; its context is described in ``policies/cedar/admission.cedarschema``."""
    return {
        "principal": {"type": "Server", "id": evidence.name},
        "action": {"type": "Action", "id": "run"},
        "resource": {"type": "Image", "id": evidence.image},
        "context": context(evidence, facts),
    }


def context(evidence: Evidence, facts: EntryFacts) -> dict[str, Any]:
    signature = evidence.signature
    body: dict[str, Any] = {
        "tier": evidence.tier,
        "has_signature": signature is not None,
        "signature_kind": signature.kind if signature else "none",
        "signer": signature.signer if signature else "",
        "has_sbom": evidence.sbom is not None,
        "has_provenance": evidence.provenance is not None,
        "has_listing": evidence.listing is not None,
        "digest_pinned": facts.digest_pinned,
        "evidence_age_s": _age(evidence, facts),
        "licences": sorted(facts.licences),
        "hosts": sorted(facts.hosts),
        "relaxations": sorted(facts.relaxations),
        "approved_relaxations": sorted(facts.approved_relaxations),
    }
    if evidence.vulnerabilities:
        worst = evidence.vulnerabilities.max_severity
        body["vulnerabilities"] = {"max_severity": worst, "max_rank": SEVERITIES.index(worst)}
    return body


def _age(evidence: Evidence, facts: EntryFacts) -> int:
    if evidence.verified_at is None:
        return _NEVER_VERIFIED
    return int(((facts.now or datetime.now(UTC)) - evidence.verified_at).total_seconds())


def _reason(policy: Policy) -> Reason:
    return Reason(policy.id, policy.reason, policy.remedy)
