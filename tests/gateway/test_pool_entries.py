"""What an entry says about the life of its sandboxes reaches the lock."""

from __future__ import annotations

from pathlib import Path

import pytest

from harbourmaster.core.settings import PROJECT_ROOT
from harbourmaster.up.locking import run_settings
from registry.build.errors import EntryInvalid
from registry.schema import parse_entry

ENTRY = PROJECT_ROOT / "registry/servers/time/server.yaml"


def run_of(*lines: str) -> dict[str, object]:
    text = ENTRY.read_text().replace("\nrun:\n", "\nrun:\n" + "".join(f"  {line}\n" for line in lines))
    return run_settings(parse_entry(Path("servers/time/server.yaml"), text.encode()))


def test_a_sandbox_lives_as_long_as_a_session_unless_the_entry_says_otherwise() -> None:
    assert run_of().keys().isdisjoint({"ephemeral", "stateless"})
    assert run_of("ephemeral: call")["ephemeral"] == "call"
    assert run_of("stateless: true")["stateless"] is True


@pytest.mark.parametrize("other", ["stateless: true", "long_lived: true"])
def test_a_sandbox_of_one_call_cannot_serve_more(other: str) -> None:
    with pytest.raises(EntryInvalid, match="serves no other"):
        run_of("ephemeral: call", other)
