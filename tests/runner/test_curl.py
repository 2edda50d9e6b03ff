"""The requests that Docker's documentation of its model runner shows (docker/docs, ``ai/model-runner/api-reference.md``), with curl."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.runner.conftest import Server

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl")]
TALK = {
    "model": "ai/smollm2",
    "messages": [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Write about the fall of Rome."},
    ],
    "max_tokens": 5,
}


def curl(server: Server, path: str, *words: str, body: Any = None, host: str = "localhost") -> str:
    """``curl http://HOST/PATH``, where HOST is the runner, as it is to those whom the documentation speaks to."""
    address = urlsplit(server.url)
    command = [
        "curl",
        "-sS",
        "--noproxy",
        "*",
        "--connect-to",
        f"{host}:80:{address.hostname}:{address.port}",
    ]
    command += [f"http://{host}{path}", *words]
    if body is not None:
        command += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=250).stdout


@pytest.mark.parametrize("host", ["localhost", "model-runner.docker.internal"])
@pytest.mark.parametrize("prefix", ["/engines/llama.cpp/v1", "/engines/v1"])
def test_chat_completions_answer_from_the_host_and_from_containers(server: Server, host: str, prefix: str) -> None:
    answer = json.loads(curl(server, f"{prefix}/chat/completions", body=TALK, host=host))
    assert answer["choices"][0]["message"]["content"]
    assert answer["usage"]["completion_tokens"] == 5


def test_models_are_listed_and_found_in_both_ways(server: Server) -> None:
    [docker] = [m for m in json.loads(curl(server, "/models")) if "ai/smollm2:latest" in m["tags"]]
    assert json.loads(curl(server, "/models/ai/smollm2"))["id"] == docker["id"]
    listed = json.loads(curl(server, "/engines/llama.cpp/v1/models"))["data"]
    assert "ai/smollm2:latest" in {m["id"] for m in listed}
    assert json.loads(curl(server, "/engines/llama.cpp/v1/models/ai/smollm2"))["object"] == "model"


def test_completions_and_embeddings_answer(server: Server) -> None:
    body = {"model": "ai/smollm2", "prompt": "Rome fell", "max_tokens": 3}
    assert json.loads(curl(server, "/engines/llama.cpp/v1/completions", body=body))["choices"][0]["text"]
    body = {"model": "ai/smollm2", "input": "Rome"}
    assert len(json.loads(curl(server, "/engines/llama.cpp/v1/embeddings", body=body))["data"][0]["embedding"]) > 100


def test_a_model_is_created_from_a_name_and_deleted(server: Server) -> None:
    """No registry answers here: what is shown is that the request is understood, and the error is Docker's plain text."""
    assert "127.0.0.1:1" in curl(server, "/models/create", body={"from": "127.0.0.1:1/no/model"})
    curl(server, "/models/ai/smollm2/tag?repo=me/gone&tag=soon", "-X", "POST")
    assert json.loads(curl(server, "/models/me/gone:soon", "-X", "DELETE"))[0] == {"Untagged": "me/gone:soon"}
