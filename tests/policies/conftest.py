"""Keys, rules and evidence that the policy tests share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from policies import statements
from policies.bundles import sign_statement
from policies.evidence import AttestationFact, Evidence, Signature
from policies.keys import SigningKey
from policies.trust import Requirement

DIGEST = "sha256:" + "a1" * 32
OTHER = "sha256:" + "b2" * 32
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def key() -> SigningKey:
    return SigningKey.generate()


@pytest.fixture(scope="session")
def requirement(key: SigningKey) -> Requirement:
    return Requirement("local builds", keys=(key.verifying,))


@pytest.fixture(scope="session")
def statement() -> dict[str, Any]:
    return statements.statement("time", DIGEST, statements.SIGNATURE, {})


@pytest.fixture(scope="session")
def bundle(key: SigningKey, statement: dict[str, Any]) -> bytes:
    return sign_statement(statement, key)


@pytest.fixture
def evidence(key: SigningKey) -> Evidence:
    signature = Signature("key", key_id=key.key_id)

    def paper(predicate_type: str) -> AttestationFact:
        return AttestationFact(predicate_type, OTHER, signature, {})

    return Evidence(
        name="time",
        tier="built",
        image=DIGEST,
        image_id=OTHER,
        config_digest=OTHER,
        links=(),
        signature=signature,
        sbom=paper(statements.SBOM),
        provenance=paper(statements.PROVENANCE),
        listing=paper(statements.LISTING),
        verified_at=NOW,
    )
