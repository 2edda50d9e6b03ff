"""The evidence statement: what another machine checks without the image, and what it refuses."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from papered import Harbour, harbour

from harbourmaster.cli import main
from harbourmaster.core.digests import sha256
from harbourmaster.core.errors import HarbourError
from policies.bundles import sign_statement
from policies.errors import TrustEmpty, UntrustedKey, WrongPredicate
from policies.keys import SigningKey
from policies.statements import SBOM, SIGNATURE, statement
from policies.trust import Requirement, TrustPolicy, TrustRule
from registry.export import statement_of
from registry.summary import VERIFICATION_SUMMARY, check


@pytest.fixture
def place(home: Path) -> Harbour:
    return harbour(home)


@pytest.fixture
def exported(place: Harbour) -> bytes:
    place.papered()
    verifier = place.verifier()
    return statement_of(place.layout, verifier.verify(place.target()), verifier.policies.digest, place.key)


def body_of(raw: bytes) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(base64.b64decode(json.loads(raw)["dsseEnvelope"]["payload"]))
    return body


def elsewhere(*keys: SigningKey) -> TrustPolicy:
    """The trust of a machine that has nothing of ours but these keys."""
    return TrustPolicy.of((TrustRule("any", ("*",), Requirement("given", tuple(k.verifying for k in keys))),), "test")


def test_it_is_one_in_toto_statement_about_the_image(place: Harbour, exported: bytes) -> None:
    body = body_of(exported)

    assert body["_type"] == "https://in-toto.io/Statement/v1"
    assert body["predicateType"] == VERIFICATION_SUMMARY
    assert body["subject"] == [{"name": "tiny", "digest": {"sha256": place.layout.resolve("tiny:1")[7:]}}]
    assert body["predicate"]["verificationResult"] == "PASSED"
    named = {a["uri"].rpartition(":")[2]: a["digest"]["sha256"] for a in body["predicate"]["inputAttestations"]}
    inside = {n: base64.b64decode(t) for n, t in body["predicate"]["harbourmaster"]["papers"].items()}
    assert named == {name: sha256(data)[7:] for name, data in inside.items()}


def test_a_machine_that_trusts_the_signer_verifies_every_paper_in_it(place: Harbour, exported: bytes) -> None:
    summary = check(exported, elsewhere(place.key))

    assert [link.name for link in summary.links] == ["statement", "listing", "provenance", "sbom", "signature"]
    assert (summary.name, summary.tier, summary.image) == ("tiny", "built", place.layout.resolve("tiny:1"))


def test_a_machine_that_does_not_trust_the_signer_refuses(exported: bytes) -> None:
    with pytest.raises(UntrustedKey):
        check(exported, elsewhere(SigningKey.generate()))
    with pytest.raises(TrustEmpty):
        check(exported, TrustPolicy.of((), "nobody"))


def forged(change: Callable[[dict[str, Any]], None], raw: bytes, key: SigningKey) -> bytes:
    """The statement with something changed, signed anew by ``key``."""
    body = body_of(raw)
    change(body)
    return sign_statement(body, key)


def drop(paper: str) -> Callable[[dict[str, Any]], None]:
    return lambda body: body["predicate"]["harbourmaster"]["papers"].pop(paper)


def another_subject(body: dict[str, Any]) -> None:
    body["subject"][0]["digest"]["sha256"] = "7" * 64


def another_image(body: dict[str, Any]) -> None:
    body["subject"][0]["digest"]["sha256"] = "7" * 64
    body["predicate"]["harbourmaster"]["image"] = "sha256:" + "7" * 64


def swapped_papers(body: dict[str, Any]) -> None:
    papers = body["predicate"]["harbourmaster"]["papers"]
    papers["sbom"], papers["listing"] = papers["listing"], papers["sbom"]


def failed(body: dict[str, Any]) -> None:
    body["predicate"]["verificationResult"] = "FAILED"


def unknown_paper(body: dict[str, Any]) -> None:
    body["predicate"]["harbourmaster"]["papers"]["blessing"] = "aGk="


def not_base64(body: dict[str, Any]) -> None:
    body["predicate"]["harbourmaster"]["papers"]["sbom"] = "!"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (drop("sbom"), "attestation.missing"),
        (drop("provenance"), "attestation.missing"),
        (another_subject, "attestation.wrong_subject"),
        (another_image, "attestation.wrong_subject"),
        (swapped_papers, "attestation.wrong_predicate"),
        (failed, "evidence.invalid"),
        (unknown_paper, "evidence.invalid"),
        (not_base64, "evidence.invalid"),
    ],
)
def test_what_the_exporter_itself_could_forge_is_refused_too(
    change: Callable[[dict[str, Any]], None], code: str, place: Harbour, exported: bytes
) -> None:
    with pytest.raises(HarbourError) as refused:
        check(forged(change, exported, place.key), elsewhere(place.key))

    assert refused.value.code == code


def test_a_paper_by_somebody_else_inside_is_refused(place: Harbour, exported: bytes) -> None:
    stranger = SigningKey.generate()
    image = place.layout.resolve("tiny:1")
    bundle = sign_statement(statement("tiny", image, SBOM, {"components": []}), stranger)

    def change(body: dict[str, Any]) -> None:
        body["predicate"]["harbourmaster"]["papers"]["sbom"] = base64.b64encode(bundle).decode()

    with pytest.raises(UntrustedKey):
        check(forged(change, exported, place.key), elsewhere(place.key))


def test_another_statement_of_a_trusted_signer_is_no_evidence(place: Harbour) -> None:
    bundle = sign_statement(statement("tiny", sha256(b"x"), SIGNATURE, {}), place.key)

    with pytest.raises(WrongPredicate):
        check(bundle, elsewhere(place.key))


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"\xff", b'{"dsseEnvelope": 1}', b"[" * 100_000])
def test_a_file_that_is_something_else_is_refused_with_a_reason(raw: bytes, place: Harbour) -> None:
    with pytest.raises(HarbourError):
        check(raw, elsewhere(place.key))


def test_the_command_line_checks_a_file_offline(
    place: Harbour, exported: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tiny.intoto.json"
    path.write_bytes(exported)

    main_or_status(["verify", str(path), "--offline", "--json"])

    assert json.loads(capsys.readouterr().out)["image"] == place.layout.resolve("tiny:1")
    flipped = bytearray(exported)
    flipped[len(flipped) // 2] ^= 1
    path.write_bytes(bytes(flipped))
    assert main_or_status(["verify", str(path), "--offline"]) == 1


def main_or_status(arguments: list[str]) -> int:
    try:
        main(arguments)
    except SystemExit as e:
        return int(e.code or 0)
    return 0
