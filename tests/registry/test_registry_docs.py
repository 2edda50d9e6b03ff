"""The examples of docs/adding-a-server.md and docs/submitting.md work as they stand."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from harbourmaster.core.errors import HarbourError
from harbourmaster.core.settings import PROJECT_ROOT
from policies.keys import SigningKey
from policies.trust import TrustPolicy
from registry.schema import parse_entry

ADDING = (PROJECT_ROOT / "docs" / "adding-a-server.md").read_text()
SUBMITTING = (PROJECT_ROOT / "docs" / "submitting.md").read_text()
EXAMPLES = [block for block in re.findall(r"```yaml\n(.*?)```", ADDING, re.DOTALL) if block.startswith("name:")]
ERRORS = (
    "policies.errors",
    "registry.errors",
    "registry.build.errors",
    "registry.lookup.errors",
    "harbourmaster.core.digests",
)


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_entry_of_the_page_is_read(text: str) -> None:
    whole = text.replace("5c099a…", "a1" * 32).replace("sha256:…", "sha256:" + "7" * 64)

    assert parse_entry(Path("servers/x/server.yaml"), whole.encode()).about.title


def test_the_page_shows_each_kind() -> None:
    assert len(EXAMPLES) == 3


def test_the_pages_trust_file_trusts_the_team(tmp_path: Path) -> None:
    (found,) = re.findall(r"trust\.yaml\n(version: 1\n.*?)\$ hm", SUBMITTING, re.DOTALL)
    team = SigningKey.generate().verifying
    (tmp_path / "team.pub").write_text(team.pem)
    policy = TrustPolicy.parse(found, path=tmp_path / "trust.yaml", local=SigningKey.generate().verifying)

    assert policy.for_server("registry.example.org/team/catalog", "catalog").keys == (team,)
    assert policy.for_server("fetch", "built").keys == (team,)


def test_every_code_that_the_page_names_exists() -> None:
    known = {
        value.code
        for module in ERRORS
        for value in vars(importlib.import_module(module)).values()
        if isinstance(value, type) and issubclass(value, HarbourError)
    }
    table = re.findall(r"^\|[^|]*\|([^|]*)\|$", SUBMITTING.partition("What is refused on the way")[2], re.MULTILINE)
    codes = {code for cell in table for code in re.findall(r"`([a-z_.]+)`", cell)}

    assert len(codes) >= 7
    assert codes <= known
