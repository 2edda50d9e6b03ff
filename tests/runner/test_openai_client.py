"""OpenAI's own Python client against the runner, with a real model."""

from __future__ import annotations

import json
from collections.abc import Iterator

import openai
import pytest

from tests.runner.conftest import Server
from tests.runner.sure import LETTERS, NO_CHOICE, SURE, WRITE

pytestmark = pytest.mark.slow

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "enum": ["Paris", "Rome"]},
                "days": {"type": "integer", "minimum": 1, "maximum": 3},
            },
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
QUESTION = [{"role": "user", "content": "What is a container?"}]


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/engines/v1", api_key="none", max_retries=0) as c:
        yield c


def test_a_chat_completion_answers_with_usage(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="ai/smollm2", messages=QUESTION, max_tokens=16, temperature=0)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 16
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 16


def test_a_stream_carries_the_same_text_as_the_whole_answer(client: openai.OpenAI) -> None:
    options = {"model": "smollm2", "messages": SURE, "max_tokens": 24, "temperature": 0}
    whole = client.chat.completions.create(**options)
    pieces = list(client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    text = "".join(p.choices[0].delta.content or "" for p in pieces if p.choices)
    assert text == whole.choices[0].message.content
    assert pieces[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert [p.choices[0].delta.role for p in pieces if p.choices and p.choices[0].delta.role] == ["assistant"]


def test_the_same_seed_gives_the_same_text_and_another_seed_another(client: openai.OpenAI, exact: bool) -> None:
    """Where rounding may change a draw now and then (not ``exact``), most seeds have to say the same twice: by chance two
    such answers hardly ever are."""

    def ask(seed: int) -> str:
        options = {"model": "smollm2", "messages": QUESTION, "max_tokens": 16 if exact else 2, "temperature": 2.0}
        return client.chat.completions.create(**options, seed=seed).choices[0].message.content or ""

    first, second = ([ask(seed) for seed in range(12)] for _ in range(2))
    assert sum(a == b for a, b in zip(first, second, strict=True)) >= (12 if exact else 8)
    assert len(set(first)) > 4


def test_a_stop_string_ends_the_answer_before_it(client: openai.OpenAI) -> None:
    options = {"model": "smollm2", "messages": SURE, "max_tokens": 40, "temperature": 0}
    whole = client.chat.completions.create(**options).choices[0].message.content or ""
    word = whole.split()[5]
    answer = client.chat.completions.create(**options, stop=[word])
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content == whole[: whole.index(word)]


def test_several_choices_come_back_in_order(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="smollm2", messages=QUESTION, n=3, max_tokens=8, temperature=1.2, seed=1
    )
    assert [c.index for c in answer.choices] == [0, 1, 2]
    assert len({c.message.content for c in answer.choices}) > 1


def test_logprobs_name_the_chosen_token_first_when_greedy(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="smollm2", messages=QUESTION, max_tokens=5, temperature=0, logprobs=True, top_logprobs=3
    )
    entries = answer.choices[0].logprobs.content
    assert len(entries) == 5
    for entry in entries:
        assert len(entry.top_logprobs) == 3
        assert entry.top_logprobs[0].token == entry.token
        assert entry.logprob <= 0


def test_a_json_schema_holds_whatever_the_model_would_rather_write(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 20}, "size": {"enum": ["small", "large"]}},
        "required": ["name", "size"],
    }
    answer = client.chat.completions.create(
        model="smollm2",
        messages=QUESTION,
        max_tokens=100,
        temperature=1.5,
        seed=3,
        response_format={"type": "json_schema", "json_schema": {"name": "thing", "schema": schema}},
    )
    value = json.loads(answer.choices[0].message.content or "")
    assert set(value) == {"name", "size"}
    assert value["size"] in ("small", "large")


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_required_tool_call_is_valid_streaming_or_not(client: openai.OpenAI, choice: object) -> None:
    options = {"model": "smollm2", "messages": QUESTION, "tools": [WEATHER], "tool_choice": choice, "temperature": 0}
    answer = client.chat.completions.create(**options, parallel_tool_calls=False)
    assert answer.choices[0].finish_reason == "tool_calls"
    asked_for_weather(answer)
    with client.chat.completions.stream(**options, parallel_tool_calls=False) as stream:
        streamed = stream.get_final_completion()
    assert streamed.choices[0].finish_reason == "tool_calls"
    asked_for_weather(streamed)


def asked_for_weather(answer: openai.types.chat.ChatCompletion) -> None:
    """Which city is a near tie for this model, and asked twice it may say either: valid is what both must be."""
    [call] = answer.choices[0].message.tool_calls or []
    assert call.function.name == "get_weather"
    arguments = json.loads(call.function.arguments)
    assert arguments["city"] in ("Paris", "Rome")
    assert 1 <= arguments["days"] <= 3


def test_arguments_that_leave_no_choice_are_the_same_streaming_or_not(client: openai.OpenAI) -> None:
    tool = {"type": "function", "function": {"name": "write", "parameters": WRITE}}
    options = {"model": "smollm2", "messages": QUESTION, "tools": [tool], "tool_choice": "required"}
    whole = client.chat.completions.create(**options)
    with client.chat.completions.stream(**options) as stream:
        streamed = stream.get_final_completion()
    [one], [other] = whole.choices[0].message.tool_calls, streamed.choices[0].message.tool_calls
    assert one.function.arguments == other.function.arguments
    assert json.loads(one.function.arguments) == NO_CHOICE


def test_a_tool_result_is_read_by_a_model_whose_template_knows_no_tools(client: openai.OpenAI) -> None:
    call = {
        "id": "c1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city":"Paris","days":1}'},
    }
    messages = [
        {"role": "user", "content": "Weather in Paris?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    ]
    answer = client.chat.completions.create(
        model="smollm2", messages=messages, tools=[WEATHER], tool_choice="none", max_tokens=8, temperature=0
    )
    assert answer.choices[0].message.tool_calls is None
    assert answer.choices[0].finish_reason in ("stop", "length")


def test_completions_continue_a_prompt_and_stream_it(client: openai.OpenAI) -> None:
    options = {"model": "smollm2", "prompt": f"{LETTERS}\n" * 5, "max_tokens": 12, "temperature": 0}
    client.completions.create(**options)
    whole = client.completions.create(**options)
    streamed = "".join(p.choices[0].text for p in client.completions.create(**options, stream=True) if p.choices)
    assert whole.choices[0].text == streamed
    assert whole.usage.completion_tokens == 12


def test_embeddings_are_unit_vectors_and_alike_for_like_texts(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="smollm2", input=["a small cat", "a little cat", "interest rates rose"])
    vectors = [d.embedding for d in answer.data]
    assert all(abs(sum(x * x for x in v) - 1) < 1e-3 for v in vectors)

    def like(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    assert like(vectors[0], vectors[1]) > like(vectors[0], vectors[2])
    assert answer.usage.prompt_tokens > 0


def test_models_show_the_context_that_requests_really_have(client: openai.OpenAI) -> None:
    [model] = client.models.list().data
    assert model.id == "ai/smollm2:latest"
    assert client.models.retrieve("ai/smollm2").to_dict()["dmr"]["context_window"] == 8192


def test_an_over_long_prompt_is_refused_with_the_numbers(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="smollm2", messages=[{"role": "user", "content": "word " * 9000}])
    assert refused.value.code == "context_length_exceeded"
    assert "8191" in str(refused.value)


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="nobody/nothing", messages=QUESTION)
    assert refused.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -1),
        ("n", 0),
        ("messages", []),
        ("stop", [""]),
        ("response_format", {"type": "xml"}),
        ("response_format", {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nothing"}}}),
        ("logit_bias", {"a": 1}),
        ("tool_choice", "required"),
    ],
)
def test_a_wrong_field_is_named(client: openai.OpenAI, field: str, value: object) -> None:
    body = {"model": "smollm2", "messages": QUESTION, field: value}
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**body)
    assert refused.value.param == field


def test_errors_come_as_errors_also_when_a_stream_was_asked_for(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(
            model="smollm2", messages=[{"role": "user", "content": "word " * 9000}], stream=True
        )
