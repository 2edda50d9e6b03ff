"""Pages that say which test shows what: the tests are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("gateway-tests.md", "conformance.md", "remote-servers.md", "security.md", "dynamic-tools.md")
_TEST = re.compile(r"`(test_\w+)(\.py)?(?:`|:)")


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_a_page_names_is_there(page: str) -> None:
    files = {path.stem: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    known = {
        name for text in files.values() for name in re.findall(r"^ *(?:async )?def (test_\w+)", text, re.MULTILINE)
    }
    named = _TEST.findall((ROOT / "docs" / page).read_text())
    lost = [name for name, suffix in named if name not in (files if suffix else known | files.keys())]
    assert lost == []
