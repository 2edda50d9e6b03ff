"""server.yaml: what authors get wrong, and what an attacker would try."""

from __future__ import annotations

from pathlib import Path

import pytest

from harbourmaster.core.settings import PROJECT_ROOT
from registry.build.errors import EntryInvalid, EntryNotFound
from registry.entry_file import MAX_ENTRY_BYTES
from registry.schema import load_entries, load_entry, parse_entry

GOOD = """\
name: ahoy
type: server
tier: built
about:
  title: Ahoy
  description: Says ahoy.
meta:
  category: utilities
  tags: [greeting]
source:
  kind: pypi
  package: mcp-server-ahoy
  version: 1.2.3
  sha256: 5c099a001c6ca78260bda419f2e9b2aabee1adc4fe6ca56d8959871ad8da58a1
  url: https://example.com/ahoy
  licence: MIT
build:
  runtime: python
run:
  command: [mcp-server-ahoy, "--to={{whom}}"]
  env:
    MOOD: jolly
  sandbox:
    memory_mb: {value: 1024, reason: it holds a large dictionary}
config:
  parameters:
    whom: {type: string, description: Who is greeted, default: crew}
test:
  calls:
    - tool: greet
      arguments: {loud: true}
      expect: {contains: ahoy}
"""
PATH = Path("servers/ahoy/server.yaml")


def parse(text: str) -> object:
    return parse_entry(PATH, text.encode())


def refused(text: str | bytes) -> EntryInvalid:
    with pytest.raises(EntryInvalid) as caught:
        parse_entry(PATH, text if isinstance(text, bytes) else text.encode())
    return caught.value


def test_a_good_entry_is_read_with_its_defaults_filled_in() -> None:
    entry = parse_entry(PATH, GOOD.encode())

    assert entry.command() == ["mcp-server-ahoy", "--to=crew"]
    assert entry.command({"whom": "captain"}) == ["mcp-server-ahoy", "--to=captain"]
    assert entry.environment() == {"MOOD": "jolly"}
    assert entry.limits() == {"memory_mb": 1024}
    assert entry.ref == "ahoy:1.2.3"
    assert not entry.needs_configuration


def test_an_error_names_file_line_key_and_remedy() -> None:
    error = refused(GOOD.replace("  licence: MIT", "  license: MIT"))

    assert error.code == "entry.invalid"
    assert error.message.startswith("servers/ahoy/server.yaml:16: source.license: no such key")
    assert "licence" in error.remedy


def test_a_missing_key_is_named_at_the_line_of_its_parent() -> None:
    error = refused(GOOD.replace("  title: Ahoy\n", ""))

    assert error.details["key"] == "about.title"
    assert error.details["line"] == 4


@pytest.mark.parametrize(
    ("line", "instead", "key"),
    [
        ("name: ahoy", "name: Ahoy", "name"),
        ("name: ahoy", "name: -ahoy", "name"),
        ("name: ahoy", "name: ../ahoy", "name"),
        ("type: server", "type: image", "type"),
        ("tier: built", "tier: community", "image"),
        ("tier: built", "tier: gold", "tier"),
        ("  category: utilities", "  category: misc", "meta.category"),
        ("  kind: pypi", "  kind: git", "source"),
        ("  kind: pypi", "  kind: cargo", "source.kind"),
        ("  package: mcp-server-ahoy", "  package: --index-url=https://evil.example", "source.package"),
        ("  package: mcp-server-ahoy", "  package: a b", "source.package"),
        ("  version: 1.2.3", "  version: 1.2", "source.version"),  # a YAML float
        ("  version: 1.2.3", "  version: '-1'", "source.version"),
        ("  version: 1.2.3", "  version: '>=1'", "source.version"),
        ("5c099a001c6ca78260bda419f2e9b2aabee1adc4fe6ca56d8959871ad8da58a1", "abc", "source.sha256"),
        ("  url: https://example.com/ahoy", "  url: javascript:alert(1)", "source.url"),
        ("  runtime: python", "  runtime: node", "build.runtime"),
        ("  runtime: python", "  runtime: python\n  packages: [-oDpkg::Pre-Invoke]", "build.packages.0"),
        ("  runtime: python", "  runtime: python\n  packages: ['git; id']", "build.packages.0"),
        ("[mcp-server-ahoy,", "[-ahoy,", "run.command.0"),
        ("[mcp-server-ahoy,", "['',", "run.command.0"),
        ("{value: 1024, reason: it holds a large dictionary}", "1024", "run.sandbox.memory_mb"),
        ("reason: it holds a large dictionary", "reason: ''", "run.sandbox.memory_mb.reason"),
        ("    memory_mb:", "    privileged:", "run.sandbox.privileged"),
        ("    MOOD: jolly", "    'MO=OD': jolly", "run.env.MO=OD.[key]"),
        ("    MOOD: jolly", "    MOOD: 7", "run.env.MOOD"),
        ("default: crew", "default: --help", "config.parameters.whom"),
        ("default: crew", "default: 5", "config.parameters.whom"),
        ("      expect: {contains: ahoy}", "      expect: {}", "test.calls.0.expect"),
        ("  env:\n", "  network: {hosts: ['example.com']}\n  env:\n", "run.network.hosts.0"),
        ("  env:\n", "  network: {hosts: ['*:443']}\n  env:\n", "run.network.hosts.0"),
        ("  env:\n", "  volumes: ['/:/host']\n  env:\n", "run.volumes"),
        ("  env:\n", "  user: '0'\n  env:\n", "run.user"),
    ],
)
def test_a_bad_value_is_refused_under_its_key(line: str, instead: str, key: str) -> None:
    assert line in GOOD

    error = refused(GOOD.replace(line, instead))

    assert error.details["key"] == key, error.message
    assert error.remedy


@pytest.mark.parametrize(
    "template", ["{{who}}", "{{ }}", "{{whom", "whom}}", "{{{{whom}}}}", "{{whom.__class__}}", "{{whom}}{{"]
)
def test_a_dangling_template_is_refused(template: str) -> None:
    error = refused(GOOD.replace("{{whom}}", template))

    assert error.details["key"] == "run.command.1"


@pytest.mark.parametrize(
    "hidden", ["\u200b", "\u202e", "\U000e0041", "\u0000", "\u001b", "\ufeff", "\u2028", "\t", "\r"]
)
def test_invisible_characters_are_refused_wherever_they_are(hidden: str) -> None:
    error = refused(GOOD.replace("Says ahoy.", f"Says{hidden} ahoy."))

    assert "invisible" in error.message
    assert error.details["line"] == 6


def test_escaped_invisible_characters_are_refused_too() -> None:
    error = refused(GOOD.replace("Says ahoy.", '"Says \\u202e ahoy."'))

    assert "invisible" in error.message


def test_aliases_are_refused_so_that_no_file_grows_in_memory() -> None:
    bomb = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]\n"

    assert "alias" in refused(bomb).message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "just text",
        "- a\n- list\n",
        "name: [unclosed",
        "name: ahoy\nname: again\n",
        "? [a]\n: b\n",
        "name: !!python/object/apply:os.system [id]\n",
        "name: !!binary aGk=\n",
        "when: 2026-01-01\n",
        "x: .inf\n",
        "x: .nan\n",
        "--- \na: 1\n---\nb: 2\n",
        "a: " + "[" * 500 + "]" * 500,
        "a: " + "[" * 40 + "]" * 40,
        "a: [" + "x," * 5000 + "]",
        "<<: {a: 1}\n",
        "%YAML 9.9\n---\na: 1\n",
    ],
)
def test_yaml_that_is_not_plain_small_data_is_refused(text: str) -> None:
    assert refused(text).code == "entry.invalid"


def test_a_large_file_is_refused_unread() -> None:
    assert "larger" in refused(GOOD + "#" * MAX_ENTRY_BYTES).message


def test_bytes_that_are_not_utf8_are_refused_with_their_line() -> None:
    error = refused(b"name: ahoy\ntype: \xff\n")

    assert error.details["line"] == 2


def test_a_secret_may_not_have_a_value_in_the_entry() -> None:
    secret = "config:\n  secrets:\n    - {name: mood, env: MOOD, description: The mood}\n"

    error = refused(GOOD.replace("config:\n", secret))

    assert error.details["key"] == "run.env.MOOD"


def test_a_required_secret_means_that_the_entry_needs_configuration() -> None:
    secret = "config:\n  secrets:\n    - {name: ahoy.key, env: AHOY_KEY, description: A key}\n"

    assert parse_entry(PATH, GOOD.replace("config:\n", secret).encode()).needs_configuration


def test_the_folder_must_have_the_servers_name(tmp_path: Path) -> None:
    (tmp_path / "hello").mkdir()
    (tmp_path / "hello" / "server.yaml").write_text(GOOD)

    with pytest.raises(EntryInvalid, match="hello"):
        load_entry(tmp_path / "hello")


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "ahoy").mkdir()
    (tmp_path / "ahoy" / "server.yaml").write_text(GOOD)

    with pytest.raises(EntryNotFound) as caught:
        load_entries(tmp_path, ("../../etc",))

    assert "ahoy" in caught.value.remedy


def test_the_starter_catalog_has_at_least_ten_servers_and_all_are_sound() -> None:
    entries = load_entries(PROJECT_ROOT / "registry" / "servers")

    assert len(entries) >= 10
    assert all(entry.test.calls for entry in entries)
    assert not [e.name for e in entries if e.needs_configuration]
