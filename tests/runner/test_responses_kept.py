"""Responses that later requests refer to: for an hour, within limits, the oldest go first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from runner.api.responses import kept
from runner.api.responses.kept import KeptResponses
from runner.api.responses.request import Conversation, extend
from runner.errors import RequestInvalid, ResponseNotFound, Unsupported


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def put(responses: KeptResponses, name: str, size: int = 10) -> None:
    responses.put({"id": name}, [], Conversation([{"role": "user", "content": "x" * size}]))


def test_a_response_is_kept_for_an_hour() -> None:
    clock = Clock()
    responses = KeptResponses(clock)
    put(responses, "one")
    clock.now = kept.KEPT_S
    assert responses.get("one").response == {"id": "one"}
    clock.now += 1
    with pytest.raises(ResponseNotFound):
        responses.get("one")


def test_the_oldest_go_when_there_are_too_many_or_they_are_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MAX_KEPT", 2)
    monkeypatch.setattr(kept, "MAX_BYTES", 10_000)
    responses = KeptResponses(Clock())
    for name in ("one", "two", "three"):
        put(responses, name)
    with pytest.raises(ResponseNotFound):
        responses.get("one")
    put(responses, "large", 9_900)
    assert responses.get("large")
    for gone in ("two", "three"):
        with pytest.raises(ResponseNotFound):
            responses.get(gone)
    put(responses, "too large", 20_000)
    with pytest.raises(ResponseNotFound):
        responses.get("too large")
    responses.remove("large")
    with pytest.raises(ResponseNotFound):
        responses.remove("large")
    assert responses._bytes == 0


def said(*items: dict[str, Any]) -> tuple[Conversation, list[Any]]:
    talk = Conversation()
    return talk, extend(talk, [{"type": "message", **i} for i in items])


ASKED = {"type": "mcp_approval_request", "id": "r1", "name": "add", "arguments": '{"a": 1}', "server_label": "x"}


def test_calls_of_one_answer_stand_in_one_message_and_results_behind_it() -> None:
    talk, _ = said(
        {"role": "user", "content": "Add."},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Well."}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "reasoning", "summary": []},
        {"type": "mcp_call", "id": "m1", "name": "add", "arguments": "{}", "output": "2", "server_label": "x"},
        {"role": "user", "content": "And?"},
        {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "1"}]},
    )
    assert [m["role"] for m in talk.messages] == ["user", "assistant", "tool", "tool", "user"]
    assert [c["id"] for c in talk.messages[1]["tool_calls"]] == ["c1", "m1"]
    assert {m["tool_call_id"]: m["content"] for m in talk.messages[2:4]} == {"c1": "1", "m1": "2"}


def test_an_approval_lets_one_call_through_once() -> None:
    yes = {"type": "mcp_approval_response", "approval_request_id": "r1", "approve": True}
    talk, approved = said(ASKED, yes)
    assert [(c.id, c.arguments) for c in approved] == [("r1", {"a": 1})]
    with pytest.raises(RequestInvalid):
        extend(talk, [yes])


@pytest.mark.parametrize("word", [False, None, "yes", 1])
def test_anything_but_true_is_a_refusal_with_its_reason(word: Any) -> None:
    no = {"type": "mcp_approval_response", "approval_request_id": "r1", "approve": word, "reason": "not now"}
    talk, approved = said(ASKED, no)
    assert approved == []
    assert talk.messages[-1]["content"] == "Not done: the person refused it: not now"


@pytest.mark.parametrize(
    ("item", "error"),
    [
        ({"type": "function_call", "name": "f"}, RequestInvalid),
        ({"type": "function_call_output", "call_id": "nobody", "output": "x"}, RequestInvalid),
        ({"type": "mcp_approval_response", "approval_request_id": "nobody", "approve": True}, RequestInvalid),
        ({"type": "computer_call"}, Unsupported),
        ({"role": "nobody", "content": "x"}, RequestInvalid),
    ],
)
def test_items_that_fit_nothing_are_refused(item: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        said(item)
