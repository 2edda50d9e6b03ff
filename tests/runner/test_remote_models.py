"""Models that another server runs.  The other server is a second runner of ours: a real one that speaks OpenAI's API."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from runner.errors import ModelNotFound, RequestInvalid
from runner.remotes import Remote, Remotes
from tests.runner.conftest import Server, quiet_port, serve
from tests.runner.sure import SURE
from tests.runner.test_openai_client import QUESTION, WEATHER


@pytest.fixture(scope="module")
def front(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A runner without a model of its own, connected to the other's."""
    home = tmp_path_factory.mktemp("front")
    command = [sys.executable, "-m", "harbourmaster", "model", "connect"]
    environment = {**os.environ, "HM_HOME": str(home)}
    for name, url in (("me/big", server.url), ("me/gone", f"http://127.0.0.1:{quiet_port()}")):
        done = subprocess.run([*command, name, url, "--model", "ai/smollm2"], env=environment, capture_output=True)
        assert done.returncode == 0, done.stderr
    with serve(home) as started:
        yield started


@pytest.fixture
def client(front: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{front.url}/v1", api_key="none", max_retries=0) as c:
        yield c


@pytest.mark.slow
def test_it_answers_like_a_model_of_the_store(client: openai.OpenAI, server: Server) -> None:
    options = {"messages": SURE, "max_tokens": 12, "temperature": 0}
    answer = client.chat.completions.create(model="me/big", **options)
    direct = server.post("/v1/chat/completions", {"model": "ai/smollm2", **options}).json()
    assert answer.choices[0].message.content == direct["choices"][0]["message"]["content"]
    assert answer.usage.completion_tokens == 12
    pieces = list(client.chat.completions.create(model="me/big", **options, stream=True))
    assert "".join(p.choices[0].delta.content or "" for p in pieces) == answer.choices[0].message.content
    assert "me/big:latest" in [m.id for m in client.models.list().data]


@pytest.mark.slow
def test_tools_embeddings_and_responses_go_through(client: openai.OpenAI, front: Server) -> None:
    options = {"messages": QUESTION, "tools": [WEATHER], "tool_choice": "required", "temperature": 0}
    [call] = client.chat.completions.create(model="me/big", **options).choices[0].message.tool_calls
    assert call.function.name == "get_weather"
    vectors = client.embeddings.create(model="me/big", input=["a", "b"])
    assert len(vectors.data) == 2
    assert vectors.usage.prompt_tokens > 0
    assert client.responses.create(model="me/big", input="Hi", max_output_tokens=4).output_text
    chat = {"model": "me/big", "messages": QUESTION, "stream": False, "options": {"num_predict": 4}}
    assert front.post("/api/chat", chat).json()["message"]["content"]


@pytest.mark.slow
@pytest.mark.parametrize("body", [{"response_format": {"type": "json_object"}}, {"logprobs": True}])
def test_what_the_other_server_does_not_promise_is_refused(client: openai.OpenAI, body: dict[str, object]) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="me/big", messages=QUESTION, **body)
    assert refused.value.code == "runner.unsupported"


@pytest.mark.slow
def test_errors_of_the_other_server_and_its_absence_are_told(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError, match="no model answers"):
        client.chat.completions.create(model="me/gone", messages=QUESTION)
    with pytest.raises(openai.APIStatusError, match="8191"):
        client.chat.completions.create(model="me/big", messages=[{"role": "user", "content": "word " * 9000}])


def test_names_are_kept_replaced_and_forgotten(tmp_path: Path) -> None:
    remotes = Remotes(tmp_path / "models" / "remotes.json")
    remotes.put(Remote("big", "http://a/v1", "x"))
    remotes.put(Remote("ai/big:latest", "http://b/v1", "x"))
    assert [r.url for r in remotes.all()] == ["http://b/v1"]
    assert remotes.find("big") == Remote("ai/big:latest", "http://b/v1", "x")
    assert remotes.find("0123456789ab") is None
    remotes.remove("big")
    with pytest.raises(ModelNotFound):
        remotes.remove("big")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "b/v1", "http://user:x@b/v1", "http://b/v1?key=x", "ftp://b"])
def test_what_is_no_plain_address_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(RequestInvalid):
        Remotes(tmp_path / "remotes.json").put(Remote("big", url, "x"))


def test_a_key_in_place_of_a_variable_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestInvalid, match="hold the key"):
        Remotes(tmp_path / "remotes.json").put(Remote("big", "http://b", "x", key_env="sk-secret"))
