"""What a bomb does to its own sandbox, what the caller is told, and that nothing of it stays."""

from __future__ import annotations

import json

import pytest

from sandbox.engine import Engine
from sandbox.reaper import list_sandboxes
from tests.escape.caller import Caller
from tests.escape.conftest import Harbour, Note

pytestmark = pytest.mark.engine


def limit_of(reply: dict[str, object]) -> tuple[str, str]:
    """The code, and the words, of an error that names a limit."""
    error = reply["error"]
    assert isinstance(error, dict), reply
    return error["data"]["code"], f"{error['message']} {error['data']['remedy']}"


def test_a_memory_bomb_ends_its_sandbox_and_the_caller_hears_of_the_limit(doomed: Caller, note: Note) -> None:
    code, words = limit_of(doomed.call("memory_bomb", most_mb=192))
    note("a memory bomb of 192 MB", "run.sandbox.memory_mb (96 here)", f"killed; the caller is told {code}")
    assert code == "sandbox.memory"
    assert "96 MB" in words
    assert "run.sandbox.memory_mb" in words
    assert set(doomed.attempt("about_the_host").values()) == {"HIDDEN"}, "the next call has a fresh sandbox"


def test_a_server_held_back_by_its_cpu_limit_is_told_from_a_slow_one(doomed: Caller, note: Note) -> None:
    code, words = limit_of(doomed.call("cpu_hog", ms=20_000))
    note("computing until the call times out", "run.sandbox.cpus (0.1 here)", f"the caller is told {code}")
    assert code == "sandbox.cpu"
    assert "0.1 CPUs" in words
    assert "run.sandbox.cpus" in words


@pytest.mark.parametrize(
    ("tool", "arguments", "code", "field"),
    [
        ("disk_bomb", {"where": "/tmp", "most_mb": 32}, "sandbox.tmp_full", "run.sandbox.tmp_mb"),
        ("disk_bomb", {"where": "/tmp", "most_mb": 12, "one_file": 1}, "sandbox.file_size", "run.sandbox.file_mb"),
        ("fork_bomb", {"most": 64}, "sandbox.pids", "run.sandbox.pids"),
        ("file_bomb", {"most": 256}, "sandbox.open_files", "run.sandbox.nofile"),
    ],
)
def test_a_tool_error_that_a_limit_caused_says_which_and_what_raises_it(
    hostile: Caller, note: Note, tool: str, arguments: dict[str, object], code: str, field: str
) -> None:
    reply = hostile.call(tool, **arguments, as_error=True)
    result = reply["result"]
    own, added = (item["text"] for item in result["content"])
    note(f"{tool}, reported as a tool error", field, f"the caller is told {code}")
    assert result["isError"] is True
    assert "=" in own, "what the server said is still there"
    assert f"[{code}]" in added
    assert field in added


def test_a_tool_error_with_another_cause_is_passed_on_as_it_is(hostile: Caller) -> None:
    result = hostile.call("about_the_host", as_error=True)["result"]
    assert result["isError"] is True
    assert len(result["content"]) == 1


def test_a_server_that_refuses_to_die_is_gone_after_its_session(harbour: Harbour, engine: Engine, note: Note) -> None:
    def running() -> set[str]:
        return {container["Id"] for container in list_sandboxes(engine)}

    with harbour.session() as caller:
        assert caller.attempt("immortal") == {"deaf": "1"}
    with harbour.session() as other:  # a call takes its time: the sandbox of the session above is taken down meanwhile
        for _ in range(600):
            if (box := sandbox_of(harbour, "immortal")) and box not in running():
                break
            assert set(other.attempt("about_the_host").values()) == {"HIDDEN"}
        assert box
        assert box not in running()
    note(
        "ignoring SIGTERM and the end of input, with four deaf children",
        "SIGKILL after the grace time, by the engine",
        "gone",
    )


def test_the_end_is_in_the_audit_with_its_code(doomed: Caller, harbour: Harbour) -> None:
    doomed.call("memory_bomb", most_mb=192)
    for _ in range(200):  # the record is written in the background, soon
        if "sandbox.memory" in failures(harbour):
            break
        doomed.attempt("about_the_host")
    assert "sandbox.memory" in failures(harbour)


def failures(harbour: Harbour) -> set[str]:
    return {record.get("code", "") for record in records(harbour) if record["outcome"] == "failed"}


def sandbox_of(harbour: Harbour, tool: str) -> str:
    """The sandbox of the last call of ``tool``, once the audit has it."""
    return next((r.get("sandbox", "") for r in reversed(records(harbour)) if r.get("tool") == tool), "")


def records(harbour: Harbour) -> list[dict[str, str]]:
    files = sorted((harbour.home / "audit").glob("audit-*.jsonl"))
    whole = [line for file in files for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return [record for record in map(json.loads, whole) if record["kind"] == "call"]
