"""OpenAI's own JavaScript client against the runner, with a real model."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.npm import installed, node_in
from tests.runner.conftest import Server

pytestmark = [pytest.mark.slow, pytest.mark.npm]

HERE = Path(__file__).resolve().parent / "js"


@pytest.fixture(scope="module")
def said(server: Server) -> Any:
    modules = installed("openai-js", HERE)
    script = modules.parent / "client.mjs"  # beside its modules, where Node looks for them
    script.write_text((HERE / "client.mjs").read_text())
    command = [str(node_in(modules)), str(script), f"{server.url}/v1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_chat_streams_the_same_text_with_usage(said: Any) -> None:
    assert said["whole"]
    assert said["streamed"] == said["whole"]
    assert said["usage"]["completion_tokens"] == 12


def test_a_tool_call_is_whole_and_valid(said: Any) -> None:
    assert said["call"]["name"] == "get_weather"
    assert json.loads(said["call"]["arguments"])["city"] in ("Paris", "Rome")


def test_embeddings_and_models(said: Any) -> None:
    assert len(set(said["widths"])) == 1
    assert "ai/smollm2:latest" in said["models"]


def test_responses_answer_and_stream(said: Any) -> None:
    assert said["response"]["text"]
    assert said["kinds"][:2] == ["response.created", "response.in_progress"]
    assert said["kinds"][-1] == f"response.{said['response']['status']}"


def test_errors_and_aborts_are_the_client_s_own(said: Any) -> None:
    assert said["unknown"] == {"kind": "NotFoundError", "status": 404, "code": "model_not_found"}
    assert said["long"]["code"] == "context_length_exceeded"
    assert said["before"] >= 3
