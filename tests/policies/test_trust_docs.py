"""The examples in docs/trust.md work as they stand."""

from __future__ import annotations

import re
from pathlib import Path

from policies.keys import SigningKey
from policies.policy_set import PolicySet, builtin_files, builtin_schema
from policies.trust import TrustPolicy

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "trust.md").read_text()


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


def test_the_trust_file_of_the_page_is_read(tmp_path: Path) -> None:
    colleague = SigningKey.generate().verifying
    for name in ("colleague.pub", "team.pub"):
        (tmp_path / name).write_text(colleague.pem)
    text = re.sub(r"id: sha256:\S+", f"id: {colleague.key_id}", block("yaml"))
    policy = TrustPolicy.parse(text, path=tmp_path / "trust.yaml", local=SigningKey.generate().verifying)
    assert policy.for_server("billing", "built").keys == (colleague,)
    assert policy.for_server("acme-time", "community").identities
    assert policy.for_server("time", "built").rule == "local builds"
    assert policy.for_server("registry.example.org/team/catalog", "catalog").keys == (colleague,)
    assert not policy.for_server("time", "community").publisher


def test_the_cedar_policy_of_the_page_is_valid() -> None:
    policies = PolicySet((*builtin_files(), ("docs/trust.md", block("cedar"))), builtin_schema())
    assert policies.get("own.high-vulnerabilities")


def test_every_code_the_page_explains_exists() -> None:
    from policies import errors

    known = {error.code for error in vars(errors).values() if isinstance(error, type) and hasattr(error, "code")}
    assert set(re.findall(r"^\| `([a-z_.]+)` ", PAGE, re.MULTILINE)) <= known
