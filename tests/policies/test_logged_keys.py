"""Key-signed bundles with a log entry: with a trusted root, the entry must be in the log and record this signature."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tinylog import TinyLog, b64, entry_specs

from harbourmaster.core.errors import HarbourError
from policies import roots
from policies.bundles import sign_statement, verify_bundle
from policies.keys import SigningKey
from policies.statements import SBOM, statement
from policies.trust import Requirement

DIGEST = "sha256:" + "a1" * 32
KINDS = ["dsse", "intoto", "hashedrekord"]


@pytest.fixture(scope="module")
def log() -> TinyLog:
    return TinyLog()


@pytest.fixture
def root(log: TinyLog, tmp_path: Path) -> Path:
    return log.root(tmp_path / "root.json", template=roots.public_good())


def with_entries(bundle: bytes, *entries: dict[str, Any]) -> bytes:
    body = json.loads(bundle)
    body["verificationMaterial"]["tlogEntries"] = list(entries)
    return json.dumps(body).encode()


def logged(bundle: bytes, key: SigningKey, log: TinyLog, kind: str = "dsse") -> bytes:
    return with_entries(bundle, log.entry(*entry_specs(bundle, key)[kind]))


def refusal(bundle: bytes, requirement: Requirement, root: Path) -> HarbourError:
    with pytest.raises(HarbourError) as caught:
        verify_bundle(bundle, requirement, trusted_root=root, artifact=DIGEST)
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
def test_an_entry_that_records_this_signature_is_verified_and_gives_its_time(
    bundle: bytes, requirement: Requirement, key: SigningKey, log: TinyLog, root: Path, kind: str
) -> None:
    verified = verify_bundle(logged(bundle, key, log, kind), requirement, trusted_root=root, artifact=DIGEST)
    assert verified.logged
    assert verified.signature.integrated_time == 1_750_000_000


def test_without_a_root_the_entry_proves_nothing_and_is_not_said_to(
    bundle: bytes, requirement: Requirement, key: SigningKey, log: TinyLog
) -> None:
    verified = verify_bundle(logged(bundle, key, log), requirement, trusted_root=None, artifact=DIGEST)
    assert not verified.logged
    assert verified.signature.integrated_time is None


@pytest.mark.parametrize("kind", KINDS)
def test_an_entry_of_another_signature_by_the_same_key_is_refused(
    bundle: bytes, requirement: Requirement, key: SigningKey, log: TinyLog, root: Path, kind: str
) -> None:
    other = sign_statement(statement("time", DIGEST, SBOM, {}), key)
    entry = log.entry(*entry_specs(other, key)[kind])
    assert refusal(with_entries(bundle, entry), requirement, root).code == "signature.invalid"


@pytest.mark.parametrize("kind", KINDS)
def test_an_entry_under_another_key_is_refused(
    bundle: bytes, requirement: Requirement, log: TinyLog, root: Path, kind: str
) -> None:
    entry = log.entry(*entry_specs(bundle, SigningKey.generate())[kind])
    assert refusal(with_entries(bundle, entry), requirement, root).code == "signature.invalid"


def test_an_entry_of_a_log_that_nobody_trusts_is_refused(
    bundle: bytes, requirement: Requirement, key: SigningKey, root: Path
) -> None:
    assert refusal(logged(bundle, key, TinyLog()), requirement, root).code == "signature.invalid"


@pytest.mark.parametrize(
    ("window", "accepted"),
    [
        ({"end": "2025-06-15T15:06:40Z"}, True),  # 1,750,000,000 itself: the interval is closed
        ({"end": "2025-06-15T15:06:39Z"}, False),
        ({"start": "2025-06-15T15:06:41Z"}, False),
    ],
)
def test_the_logs_key_counts_only_while_the_root_trusts_it(
    bundle: bytes,
    requirement: Requirement,
    key: SigningKey,
    log: TinyLog,
    tmp_path: Path,
    window: dict[str, str],
    accepted: bool,
) -> None:
    root = log.root(tmp_path / "root.json", template=roots.public_good(), **window)
    signed = logged(bundle, key, log)
    if accepted:
        assert verify_bundle(signed, requirement, trusted_root=root).logged
    else:
        assert refusal(signed, requirement, root).code == "signature.expired"


def edit_entry(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda entry: entry.update(changes)


def edit_proof(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda entry: entry["inclusionProof"].update(changes)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (edit_entry(integratedTime="1750000001"), "signature.invalid"),
        (edit_entry(logIndex="1"), "signature.invalid"),
        (edit_entry(logIndex="-1"), "signature.malformed"),
        (edit_entry(inclusionPromise={"signedEntryTimestamp": b64(b"no")}), "signature.invalid"),
        (edit_entry(canonicalizedBody=b64("{}")), "signature.invalid"),
        (edit_entry(kindVersion={"kind": "rekord", "version": "0.0.1"}), "signature.invalid"),
        (edit_entry(inclusionProof=None), "signature.malformed"),
        (edit_proof(rootHash=b64(b"\0" * 32)), "signature.invalid"),
        (edit_proof(hashes=[b64(b"\0" * 32)]), "signature.invalid"),
        (edit_proof(treeSize="2"), "signature.invalid"),
        (edit_proof(checkpoint=None), "signature.invalid"),
        (edit_proof(checkpoint={"envelope": "log.example\n1\n"}), "signature.invalid"),
        (edit_proof(checkpoint={"envelope": "log.example\n1\nAAAA\n\n— log.example !!!\n"}), "signature.invalid"),
    ],
)
def test_a_tampered_entry_is_refused(
    bundle: bytes, requirement: Requirement, key: SigningKey, log: TinyLog, root: Path, change: Any, code: str
) -> None:
    body = json.loads(logged(bundle, key, log))
    change(body["verificationMaterial"]["tlogEntries"][0])
    assert refusal(json.dumps(body).encode(), requirement, root).code == code


@pytest.mark.parametrize(
    "spec", [{}, {"payloadHash": {}}, {"signatures": [{}], "payloadHash": 1}, {"signatures": None}, {"signatures": "x"}]
)
def test_an_entry_whose_body_makes_no_sense_is_refused(
    bundle: bytes, requirement: Requirement, log: TinyLog, root: Path, spec: dict[str, Any]
) -> None:
    assert (
        refusal(with_entries(bundle, log.entry("dsse", "0.0.1", spec)), requirement, root).code == "signature.invalid"
    )


def test_two_entries_are_refused(
    bundle: bytes, requirement: Requirement, key: SigningKey, log: TinyLog, root: Path
) -> None:
    entry = log.entry(*entry_specs(bundle, key)["dsse"])
    assert refusal(with_entries(bundle, entry, entry), requirement, root).code == "signature.malformed"
