"""The trust policy: the first matching rule decides, an empty one accepts nothing, and mistakes have a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from harbourmaster.core.settings import Settings
from policies.bundles import sign_statement, verify_bundle
from policies.errors import TrustEmpty, TrustInvalid
from policies.keys import SigningKey
from policies.statements import SIGNATURE, statement
from policies.trust import TrustedIdentity, TrustPolicy

DIGEST = "sha256:" + "a1" * 32

FULL = """\
version: 1
rules:
  - name: acme
    tier: community
    servers: [acme-time, "acme-*"]
    keys:
      - file: acme.pub
      - local: true
    identities:
      - issuer: https://issuer.example
        identity: release@acme.example
      - issuer: https://issuer.example
        identity_regex: https://github\\.com/acme/.*
    trusted_root: root.json
  - name: everything else
    tier: any
    servers: ["*"]
    keys: [{local: true}]
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "acme.pub").write_text(SigningKey.generate().verifying.pem)
    (tmp_path / "root.json").write_text("{}")
    return tmp_path / "trust.yaml"


def parse(text: str, place: Path, key: SigningKey) -> TrustPolicy:
    return TrustPolicy.parse(text, path=place, local=key.verifying)


def test_without_a_file_only_this_installations_key_is_trusted_for_what_it_built_or_looked_into(
    settings: Settings,
) -> None:
    policy = TrustPolicy.load(settings)
    key = SigningKey.load(settings.keys_dir)
    assert key is not None
    assert policy.for_server("anything", "built").keys == (key.verifying,)
    assert policy.for_server("anything", "built").publisher
    surveyed = policy.for_server("anything", "community")
    assert surveyed.keys == (key.verifying,)
    assert not surveyed.publisher, "this installation published none of them"
    with pytest.raises(TrustEmpty) as refused:
        policy.for_server("registry.example.org/catalog", "catalog")
    assert refused.value.code == "trust.empty"


def test_what_the_local_key_signs_verifies_under_the_default(settings: Settings) -> None:
    bundle = sign_statement(statement("time", DIGEST, SIGNATURE, {}), SigningKey.load_or_create(settings.keys_dir))
    need = TrustPolicy.load(settings).for_server("time", "built")
    assert verify_bundle(bundle, need, trusted_root=None, artifact=DIGEST).rule == "local builds"


def test_the_file_in_the_home_takes_the_defaults_place(settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    settings.trust_file.write_text("version: 1\nrules: []\n")
    with pytest.raises(TrustEmpty, match="it has no rules"):
        TrustPolicy.load(settings).for_server("time", "built")


def test_a_full_file_is_read(place: Path, key: SigningKey) -> None:
    need = parse(FULL, place, key).for_server("acme-maps", "community")
    assert need.rule == "acme"
    assert len(need.keys) == 2
    assert need.identities == (
        TrustedIdentity("https://issuer.example", identity="release@acme.example"),
        TrustedIdentity("https://issuer.example", identity_regex=r"https://github\.com/acme/.*"),
    )
    assert need.trusted_root == place.parent / "root.json"


@pytest.mark.parametrize(
    ("name", "tier", "rule"),
    [
        ("acme-time", "community", "acme"),
        ("acme-time", "built", "everything else"),
        ("acmetime", "community", "everything else"),
        ("time", "community", "everything else"),
    ],
)
def test_the_first_rule_that_matches_tier_and_name_decides_alone(
    place: Path, key: SigningKey, name: str, tier: str, rule: str
) -> None:
    assert parse(FULL, place, key).for_server(name, tier).rule == rule


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n",
        "version: 1\n",
        "version: 1\nrules:\n",
        "version: 1\nrules: []\n",
        "version: 1\nrules: [{name: a, tier: any, servers: ['*']}]\n",
        "version: 1\nrules: [{name: a, tier: any, servers: ['*'], keys: [], identities: []}]\n",
        "version: 1\nrules: [{name: a, tier: any, keys: [{local: true}]}]\n",
        "version: 1\nrules: [{name: a, tier: any, servers: [], keys: [{local: true}]}]\n",
    ],
)
def test_an_empty_policy_or_rule_accepts_nothing(place: Path, key: SigningKey, text: str) -> None:
    with pytest.raises(TrustEmpty) as refused:
        parse(text, place, key).for_server("time", "built")
    assert refused.value.code == "trust.empty"


KEYS = "version: 1\nrules:\n  - name: a\n    tier: any\n    servers: ['*']\n    keys:\n"
WHO = KEYS.replace("keys:", "identities:")


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("version: 2\nrules: []\n", 1, "version must be 1"),
        ("rules: []\n", 1, "version must be 1"),
        ("version: 1\nrulez: []\n", 2, "unknown key 'rulez'"),
        ("version: 1\nversion: 1\n", 2, "duplicate"),
        ("- a\n", 1, "expected a mapping"),
        ("version: 1\nrules: {a: b}\n", 2, "rules must be a list"),
        ("version: 1\nrules:\n  - text\n", 3, "expected a mapping"),
        ("version: 1\nrules:\n  - name: a\n    tier: gold\n", 4, "tier must be one of"),
        ("version: 1\nrules:\n  - name: a\n    tier: any\n    servers: '*'\n", 5, "servers must be a list"),
        ("version: 1\nrules:\n  - name: a\n    tier: any\n    servers: [UPPER]\n", 5, "not a server name"),
        ("version: 1\nrules:\n  - tier: any\n    servers: ['*']\n", 3, "name must be text"),
        (KEYS + "      - file: missing.pub\n", 7, "missing.pub"),
        (KEYS + "      - pem: nonsense\n", 7, "not a PEM public key"),
        (KEYS + "      - {}\n", 7, "exactly one of"),
        (KEYS + "      - file: a\n        pem: b\n", 7, "exactly one of"),
        (KEYS + "      - local: false\n", 7, "local must be true"),
        (KEYS + "      - local: true\n        id: sha256:00\n", 8, "this key's id is sha256:"),
        (KEYS + "      - sha256:abc\n", 7, "expected a mapping"),
        (WHO + "      - issuer: https://x\n", 7, "either identity or identity_regex"),
        (WHO + "      - issuer: https://x\n        identity: a\n        identity_regex: b\n", 7, "either identity"),
        (WHO + "      - identity: a\n", 7, "issuer must be text"),
        (WHO + "      - issuer: https://x\n        identity: ''\n", 8, "identity must be text"),
        (WHO + "      - issuer: https://x\n        identity_regex: '('\n", 8, "identity_regex"),
        ("version: 1\nrules:\n  - name: a\n    tier: any\n    trusted_root: none.json\n", 5, "is not a file"),
        ("version: 1\n\trules: []\n", 2, ""),
        ("version: 1\nrules: [\n", 3, ""),
        ("a: &a [*a]\n", 1, ""),
    ],
)
def test_a_mistake_is_named_with_file_and_line(place: Path, key: SigningKey, text: str, line: int, says: str) -> None:
    with pytest.raises(TrustInvalid) as refused:
        parse(text, place, key)
    assert refused.value.code == "trust.invalid"
    assert f"{place}, line {line}:" in refused.value.message
    assert says in refused.value.message


def test_two_rules_of_one_name_are_refused(place: Path, key: SigningKey) -> None:
    with pytest.raises(TrustInvalid, match="line 10: two rules are named"):
        parse(KEYS + "      - local: true\n  - name: b\n    tier: any\n  - name: a\n    tier: any\n", place, key)


@pytest.mark.parametrize("raw", [b"\xff\xfe\x00", b"a" * (1 << 20), b"[" * 5_000])
def test_a_file_that_is_no_yaml_is_refused(place: Path, raw: bytes) -> None:
    with pytest.raises(TrustInvalid):
        TrustPolicy.parse(raw, path=place)


def test_the_digest_follows_what_is_trusted_and_not_how_it_is_written(place: Path, key: SigningKey) -> None:
    before = parse(FULL, place, key).digest
    assert parse("# a comment\n" + FULL, place, key).digest == before
    assert parse(FULL, place, SigningKey.generate()).digest != before
    assert parse(FULL.replace("release@", "other@"), place, key).digest != before
    (place.parent / "root.json").write_text('{"changed": true}')
    assert parse(FULL, place, key).digest != before


@pytest.mark.parametrize(
    ("trusted", "issuer", "identity", "accepted"),
    [
        (TrustedIdentity("https://i", identity="a"), "https://i", "a", True),
        (TrustedIdentity("https://i", identity="a"), "https://i", "ab", False),
        (TrustedIdentity("https://i", identity="a"), "https://j", "a", False),
        (TrustedIdentity("https://i", identity_regex="a.*"), "https://i", "abc", True),
        (TrustedIdentity("https://i", identity_regex="b"), "https://i", "abc", False),
        (TrustedIdentity("https://i", identity_regex="a|b"), "https://i", "ab", False),
        (TrustedIdentity("https://i", identity_regex="a$"), "https://i", "a\n", False),
        (TrustedIdentity("https://i"), "https://i", "a", False),
    ],
)
def test_an_identity_matches_whole_and_only_with_its_issuer(
    trusted: TrustedIdentity, issuer: str, identity: str, accepted: bool
) -> None:
    assert trusted.accepts(issuer, identity) is accepted


def test_a_rule_for_any_tier_trusts_nobody_with_a_catalog(place: Path, key: SigningKey) -> None:
    everything = "version: 1\nrules:\n- {name: all, tier: any, servers: ['*'], keys: [{local: true}]}\n"
    policy = parse(everything, place, key)
    assert policy.for_server("time", "community").keys == (key.verifying,)
    with pytest.raises(TrustEmpty):
        policy.for_server("127.0.0.1:5000/team/catalog", "catalog")
    named = everything.replace("tier: any, servers: ['*']", "tier: catalog, servers: ['127.0.0.1:5000/team/*']")
    assert parse(named, place, key).for_server("127.0.0.1:5000/team/catalog", "catalog").keys == (key.verifying,)


@pytest.mark.parametrize(
    ("keys", "publisher"),
    [("{local: true}", False), ("{file: acme.pub}", True), ("{local: true}, {file: acme.pub}", True)],
)
def test_a_community_rule_that_names_anyone_else_asks_for_the_publishers_signature(
    keys: str, publisher: bool, place: Path, key: SigningKey
) -> None:
    text = f"version: 1\nrules:\n- {{name: c, tier: community, servers: ['*'], keys: [{keys}]}}\n"
    assert parse(text, place, key).for_server("maps", "community").publisher is publisher
