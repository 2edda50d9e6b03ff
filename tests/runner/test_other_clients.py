"""Anthropic's and Ollama's own Python clients, and Docker's management API, with a real model."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import ollama
import pytest

from tests.runner.conftest import Server
from tests.runner.sure import NO_CHOICE, SURE, WRITE

pytestmark = pytest.mark.slow

QUESTION = [{"role": "user", "content": "What is a container?"}]
SCHEMA = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}


@pytest.fixture
def claude(server: Server) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=f"{server.url}/anthropic", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def llama(server: Server) -> Iterator[ollama.Client]:
    with ollama.Client(host=server.url) as client:
        yield client


def test_a_message_and_its_stream_say_the_same(claude: anthropic.Anthropic) -> None:
    options = {"model": "ai/smollm2", "max_tokens": 12, "messages": SURE, "extra_body": {"temperature": 0}}
    whole = claude.messages.create(**options)
    assert whole.stop_reason == "max_tokens"
    assert whole.usage.output_tokens == 12
    with claude.messages.stream(**options) as stream:
        final = stream.get_final_message()
    assert final.content[0].text == whole.content[0].text
    assert final.stop_reason == "max_tokens"


def test_a_forced_tool_is_used_streaming_or_not(claude: anthropic.Anthropic) -> None:
    tool = {"name": "weather", "description": "The weather of a city", "input_schema": SCHEMA}
    options = {
        "model": "smollm2",
        "max_tokens": 100,
        "messages": QUESTION,
        "extra_body": {"temperature": 0},
        "tools": [tool],
        "tool_choice": {"type": "tool", "name": "weather"},
    }
    whole = claude.messages.create(**options)
    assert whole.stop_reason == "tool_use"
    assert whole.content[0].input["city"] in ("Paris", "Rome")
    with claude.messages.stream(**options) as stream:
        assert stream.get_final_message().content[0].input["city"] in ("Paris", "Rome")


def test_input_that_leaves_no_choice_is_the_same_streaming_or_not(claude: anthropic.Anthropic) -> None:
    tool = {"name": "write", "description": "Write a note", "input_schema": WRITE}
    options = {"model": "smollm2", "max_tokens": 100, "messages": QUESTION, "tools": [tool]}
    options["tool_choice"] = {"type": "tool", "name": "write"}
    whole = claude.messages.create(**options)
    with claude.messages.stream(**options) as stream:
        assert stream.get_final_message().content[0].input == whole.content[0].input == NO_CHOICE


def test_tokens_are_counted_as_the_model_reads_them(claude: anthropic.Anthropic) -> None:
    count = claude.messages.count_tokens(model="smollm2", messages=QUESTION)
    answer = claude.messages.create(model="smollm2", max_tokens=1, messages=QUESTION)
    assert count.input_tokens == answer.usage.input_tokens


def test_anthropic_errors_have_anthropic_s_shape(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as refused:
        claude.messages.create(model="nobody/nothing", max_tokens=5, messages=QUESTION)
    assert refused.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(anthropic.BadRequestError):
        claude.messages.create(model="smollm2", max_tokens=5, messages=[{"role": "user", "content": "word " * 9000}])


def test_ollama_chats_streams_generates_and_embeds(llama: ollama.Client) -> None:
    options = {"temperature": 0, "num_predict": 12}
    whole = llama.chat(model="smollm2", messages=SURE, options=options)
    pieces = llama.chat(model="smollm2", messages=SURE, options=options, stream=True)
    assert "".join(p.message.content or "" for p in pieces) == whole.message.content
    assert whole.eval_count == 12
    assert llama.generate(model="smollm2", prompt="Hello", options=options).response
    assert len(llama.embed(model="smollm2", input=["a", "b"]).embeddings) == 2


def test_ollama_lists_shows_and_holds_a_format(llama: ollama.Client) -> None:
    assert llama.list().models[0].model == "ai/smollm2:latest"
    assert llama.show("smollm2").details.quantization_level == "Q4_1"
    answer = llama.generate(model="smollm2", prompt="A city?", format=SCHEMA, options={"temperature": 0})
    assert answer.response.replace(" ", "").replace("\n", "") in ('{"city":"Paris"}', '{"city":"Rome"}')


def test_ollama_errors_have_ollama_s_shape(llama: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError) as refused:
        llama.chat(model="nobody/nothing", messages=QUESTION)
    assert refused.value.status_code == 404


def test_docker_s_listing_names_id_tags_and_config(server: Server) -> None:
    [model] = server.get("/models").json()
    assert model["id"].startswith("sha256:")
    assert model["tags"] == ["ai/smollm2:latest"]
    assert model["config"]["architecture"] == "llama"
    assert server.get("/models/ai/smollm2").json() == model
    assert server.get(f"/models/{model['id'][7:19]}").json() == model
    missing = server.get("/models/nobody/nothing")
    assert missing.status_code == 404
    assert missing.headers["content-type"].startswith("text/plain")


def test_a_second_tag_comes_and_goes_without_the_model(server: Server) -> None:
    assert server.post("/models/ai/smollm2/tag?repo=local/copy&tag=v1", None).status_code == 201
    assert server.delete("/models/local/copy:v1").json() == [{"Untagged": "local/copy:v1"}]
    assert server.get("/models/ai/smollm2").status_code == 200


def test_a_loaded_model_is_shown_unloaded_and_loaded_again(server: Server) -> None:
    ask = {"model": "smollm2", "messages": QUESTION, "max_tokens": 1}
    assert server.post("/v1/chat/completions", ask).status_code == 200
    [running] = [r for r in server.get("/engines/ps").json() if not r["in_use"]]
    assert running["model_name"] == "ai/smollm2:latest"
    assert running["memory"] > 90 << 20
    assert server.post("/engines/unload", {"all": True}).json() == {"unloaded_runners": 1}
    assert server.get("/engines/ps").json() == []
    assert server.get("/engines/departures").json()[-1]["why"] == "asked to unload"
    assert server.post("/v1/chat/completions", ask).status_code == 200


def test_flags_for_the_backend_are_refused_and_settings_are_kept(server: Server) -> None:
    refused = server.post("/engines/_configure", {"model": "smollm2", "raw-runtime-flags": "--log-file /etc/passwd"})
    assert refused.status_code == 400
    assert server.post("/engines/_configure", {"model": "smollm2", "keep_alive": "10m"}).status_code == 202
    [entry] = server.get("/engines/_configure?model=smollm2").json()
    assert entry["Config"]["keep_alive_s"] == 600


def test_pages_of_other_sites_and_other_host_names_are_kept_out(server: Server) -> None:
    import httpx2

    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
        answer = httpx2.get(f"{server.url}/v1/models", headers=headers)
        assert answer.status_code == 403
    assert httpx2.get(f"{server.url}/v1/models", headers={"Origin": "http://localhost:3000"}).status_code == 200
