"""Every bundle of sigstore/sigstore-conformance that must verify does; every one that must not is refused by type.

The rules are those of the suite's README; key-signed bundles are part of it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harbourmaster.core.errors import HarbourError
from policies import roots
from policies.bundles import verify_bundle
from policies.trust import Requirement, TrustedIdentity, TrustPolicy

SHARED = Path(os.environ.get("HM_SHARED_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data"))
SUITE = SHARED / "sigstore-conformance" / "bundle-verify"
CASES = sorted(p.name for p in SUITE.iterdir() if p.is_dir()) if SUITE.is_dir() else []
IDENTITY = (
    "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/"
    ".github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main"
)
ISSUER = "https://token.actions.githubusercontent.com"

# Where the reason matters as much as the refusal: not merely "something was wrong".
CODES = {
    "managed-key-no-key_fail": "signature.untrusted_key",
    "managed-key-wrong-key_fail": "trust.invalid",  # its key.pub is no key at all
    "intoto-expired-certificate_fail": "signature.expired",
    "intoto-set-outside-signing-cert-validity_fail": "signature.expired",
    "intoto-tsa-timestamp-outside-cert-validity_fail": "signature.expired",
    "integrated-time-in-future_fail": "signature.expired",
    "rekor2-timestamp-with-incorrect-time_fail": "signature.expired",
    "intoto-log-entry-mismatch_fail": "signature.invalid",
    "bundle-malformed-json_fail": "signature.malformed",
    "bundle-unknown-version_fail": "signature.malformed",
    "trust-root-tlog-missing-validity-start_fail": "trust.root_invalid",
}

pytestmark = pytest.mark.skipif(not CASES, reason=f"no sigstore-conformance data in {SUITE}")


def _text(path: Path, default: str) -> str:
    return path.read_text().strip() if path.exists() else default


def _requirement(case: Path) -> Requirement:
    if (case / "key.pub").exists():
        text = "version: 1\nrules: [{name: conformance, tier: built, servers: ['*'], keys: [{file: key.pub}]}]\n"
        return TrustPolicy.parse(text, path=case / "trust.yaml").for_server("any", "built")
    who = TrustedIdentity(_text(case / "issuer", ISSUER), identity=_text(case / "identity", IDENTITY))
    return Requirement("conformance", identities=(who,))


@pytest.fixture(scope="module")
def public_good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("root") / "trusted_root.json"
    path.write_bytes(roots.public_good())
    return path


@pytest.mark.parametrize("name", CASES)
def test_a_conformance_bundle_gets_the_verdict_its_name_asks_for(name: str, public_good: Path) -> None:
    case = SUITE / name
    root = case / "trusted_root.json"
    artifact = case / "artifact" if (case / "artifact").exists() else SUITE / "a.txt"

    def verify() -> None:
        verify_bundle(
            (case / "bundle.sigstore.json").read_bytes(),
            _requirement(case),
            trusted_root=root if root.exists() else public_good,
            artifact=artifact.read_bytes(),
        )

    if not name.endswith("_fail"):
        verify()
        return
    with pytest.raises(HarbourError) as refused:
        verify()
    assert refused.value.code == CODES.get(name, refused.value.code)
    assert refused.value.code.startswith(("signature.", "trust."))
    assert refused.value.remedy


def test_the_whole_suite_is_here() -> None:
    assert len(CASES) == 70
