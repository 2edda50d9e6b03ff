"""Transcripts: what a run leaves behind, also one that was killed, and what is read back from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harbourmaster.core.settings import Settings
from runner.agent.events import CallAnswered, CallAsked, CallRefused, MessageAdded, Report, ToolResult
from runner.agent.toolset import calls_message, make_call, result_message
from runner.agent.transcript import INTERRUPTED, Transcript, folder, load, runs
from runner.errors import RunUnknown, TranscriptInvalid

CALL = make_call("c1", "add", '{"a": 1}')
OTHER = make_call("c2", "add", "{}")


def begun(settings: Settings) -> Transcript:
    transcript = Transcript.begin(settings, {"model": "m"})
    transcript.message({"role": "system", "content": "Be brief."})
    transcript.message({"role": "user", "content": "Add."})
    return transcript


def append(transcript: Transcript, text: str) -> None:
    with transcript.path.open("a") as f:
        f.write(text)


def roles(messages: list[dict[str, Any]]) -> list[str]:
    return [m["role"] for m in messages]


def test_what_happened_is_read_back(settings: Settings) -> None:
    with begun(settings) as transcript:
        for event in (
            CallAsked(CALL),
            MessageAdded(calls_message("", [CALL])),
            CallAnswered(CALL, ToolResult("whole result"), 0.5),
            MessageAdded(result_message(CALL, "a part")),
            CallRefused(OTHER, "no such argument"),
            MessageAdded({"role": "assistant", "content": "1"}),
        ):
            transcript.tell(event)
        transcript.report(Report("answered", "the model answered", "1", rounds=2, calls=1))
    known = load(settings, transcript.id)
    assert runs(settings) == [transcript.id]
    assert known.task == "Add."
    assert known.about["model"] == "m"
    assert roles(known.messages) == ["system", "user", "assistant", "tool", "assistant"]
    assert [c["what"] for c in known.calls] == ["asked", "answered", "refused"]
    assert known.calls[1]["result"]["text"] == "whole result"
    assert known.reports[0]["outcome"] == "answered"
    assert folder(settings).stat().st_mode & 0o777 == 0o700


def test_a_run_that_was_killed_goes_on_with_its_calls_answered_and_its_torn_line_left_out(settings: Settings) -> None:
    with begun(settings) as transcript:
        transcript.tell(MessageAdded(calls_message("", [CALL, OTHER])))
        transcript.tell(MessageAdded(result_message(OTHER, "2")))
    append(transcript, '{"at": "now", "kind": "message", "mess')
    resumed, known = Transcript.resume(settings, "last", {"model": "other"})
    with resumed:
        resumed.message({"role": "user", "content": "Go on."})
    assert [m.get("tool_call_id") for m in known.messages[2:]] == [None, "c1", "c2"]
    assert known.messages[3]["content"] == INTERRUPTED
    again = load(settings, transcript.id)
    assert again.messages[-1]["content"] == "Go on."
    assert again.about["model"] == "other"


def test_a_cleared_conversation_keeps_its_system_message(settings: Settings) -> None:
    with begun(settings) as transcript:
        transcript.write("clear")
        transcript.message({"role": "user", "content": "Anew."})
    assert [m["content"] for m in load(settings, "last").messages] == ["Be brief.", "Anew."]


@pytest.mark.parametrize(
    "line", ['{"kind": "unknown"}', '{"kind": "message", "message": {"role": 1}}', '{"kind": "report"}', "[]", "7"]
)
def test_lines_that_no_run_wrote_are_refused_by_number(settings: Settings, line: str) -> None:
    with begun(settings) as transcript:
        pass
    append(transcript, line + "\n")
    with pytest.raises(TranscriptInvalid, match="line 4"):
        load(settings, transcript.id)


def test_another_version_and_an_unknown_name_are_refused(settings: Settings) -> None:
    with pytest.raises(RunUnknown):
        load(settings, "last")
    with begun(settings) as transcript:
        pass
    lines = transcript.path.read_text().splitlines()
    lines[0] = json.dumps({**json.loads(lines[0]), "version": 99})
    transcript.path.write_text("\n".join(lines))
    with pytest.raises(TranscriptInvalid, match="version"):
        load(settings, transcript.id)
    for name in ("../../etc/passwd", "20260101-000000-abcdef"):
        with pytest.raises(RunUnknown):
            load(settings, name)


def test_a_strange_file_beside_the_transcripts_is_no_run(settings: Settings, tmp_path: Path) -> None:
    folder(settings).mkdir(parents=True)
    (folder(settings) / "notes.jsonl").write_text("x")
    assert runs(settings) == []
