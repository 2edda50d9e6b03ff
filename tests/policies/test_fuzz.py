"""Whatever is done to a bundle, verification ends in a verdict or a typed refusal, never in another exception."""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tinylog import TinyLog, entry_specs

from harbourmaster.core.errors import HarbourError
from policies import roots
from policies.bundles import verify_bundle
from policies.keys import SigningKey
from policies.trust import Requirement, TrustedIdentity

SHARED = Path(os.environ.get("HM_SHARED_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data"))
SUITE = SHARED / "sigstore-conformance" / "bundle-verify"
GOOD = ["happy-path-v0.1", "happy-path-intoto-in-dsse-v3", "rekor2-dsse-happy-path", "intoto-with-custom-trust-root"]
ODD = [None, True, 0, -1, 1e308, "", "A", "AAAA", "MAA=", "\ud800", "x" * 10_000, [], {}, [[]], [{}], {"a": {}}]
ROUNDS = int(os.environ.get("HM_TEST_FUZZ_ROUNDS", "60"))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    for name, inner in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield from places(inner, (*path, name))


def mutated(body: Any, chance: random.Random) -> Any:
    """One value replaced, removed or with one character changed."""
    other = copy.deepcopy(body)
    path = chance.choice([p for p in places(body) if p])
    holder = other
    for name in path[:-1]:
        holder = holder[name]
    value, last = holder[path[-1]], path[-1]
    how = chance.randrange(3)
    if how == 0:
        del holder[last]
    elif how == 1 and isinstance(value, str) and value:
        at = chance.randrange(len(value))
        holder[last] = value[:at] + chance.choice("A/=9é\n") + value[at + 1 :]
    else:
        holder[last] = chance.choice(ODD)
    return other


def verdict(raw: bytes, requirement: Requirement, root: Path | None) -> str:
    try:
        verify_bundle(raw, requirement, trusted_root=root)
    except HarbourError as e:
        return e.code
    return "good"


@pytest.mark.parametrize("name", GOOD)
def test_a_mutated_keyless_bundle_gets_a_verdict(name: str) -> None:
    case = SUITE / name
    if not case.is_dir():
        pytest.skip(f"no sigstore-conformance data in {SUITE}")
    root = case / "trusted_root.json"
    anyone = Requirement(
        "fuzz", identities=(TrustedIdentity("https://token.actions.githubusercontent.com", identity_regex=".*"),)
    )
    body = json.loads((case / "bundle.sigstore.json").read_text())
    chance = random.Random(name)
    for _ in range(ROUNDS):
        verdict(json.dumps(mutated(body, chance)).encode(), anyone, root if root.exists() else None)


@pytest.mark.parametrize("kind", ["dsse", "intoto", "hashedrekord"])
def test_a_mutated_logged_bundle_gets_a_verdict(
    bundle: bytes, requirement: Requirement, key: SigningKey, tmp_path: Path, kind: str
) -> None:
    log = TinyLog()
    root = log.root(tmp_path / "root.json", template=roots.public_good())
    body = json.loads(bundle)
    chance = random.Random(kind)
    for _ in range(ROUNDS):
        name, version, spec = entry_specs(bundle, key)[kind]
        inside = chance.random() < 0.5  # a log that signs nonsense, or an honest log's entry changed afterwards
        told = mutated(spec, chance) if inside else spec
        if "ud800" in json.dumps(told):
            continue  # not even this log can sign what is not Unicode
        entry = log.entry(name, version, told)
        body["verificationMaterial"]["tlogEntries"] = [entry]
        verdict(json.dumps(body if inside else mutated(body, chance)).encode(), requirement, root)


def test_a_mutated_trusted_root_gets_a_verdict(
    bundle: bytes, requirement: Requirement, key: SigningKey, tmp_path: Path
) -> None:
    log = TinyLog()
    good = json.loads(log.root(tmp_path / "root.json", template=roots.public_good()).read_text())
    body = json.loads(bundle)
    body["verificationMaterial"]["tlogEntries"] = [log.entry(*entry_specs(bundle, key)["dsse"])]
    chance = random.Random(1)
    for number in range(ROUNDS):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(mutated(good, chance)))
        verdict(json.dumps(body).encode(), requirement, path)


def test_mutations_of_a_signed_bundle_are_noticed(bundle: bytes, requirement: Requirement) -> None:
    body = json.loads(bundle)
    chance = random.Random(2)
    for _ in range(ROUNDS):
        other = mutated(body["dsseEnvelope"], chance)
        changed = json.dumps({**body, "dsseEnvelope": other}).encode()
        if verdict(changed, requirement, None) == "good":
            same = all(other.get(name) == body["dsseEnvelope"][name] for name in ("payload", "payloadType"))
            assert same, "a changed payload verified"
