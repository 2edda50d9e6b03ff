"""`hm model` verbs beyond the store: compose, search, bench, export and import, logs."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from runner.cli_compose import PARAMETERS
from runner.store.search import SearchUnavailable, search
from runner.store.store import ModelStore
from tests.runner.conftest import Server, free_port

PLUGIN = "import sys; sys.argv[0] = 'docker-model'; from runner.cli_compose import plugin; plugin()"


def hm(home: Path, *words: str, data: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "harbourmaster", "model", *words]
    return subprocess.run(
        command, input=data, capture_output=True, check=False, env={**os.environ, "HM_HOME": str(home), **environment}
    )


def plugin(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """As Compose runs it."""
    environment = {**os.environ, "HM_HOME": str(home)}
    command = [sys.executable, "-c", PLUGIN, *words]
    return subprocess.run(command, capture_output=True, check=False, text=True, env=environment)


def lines(text: str) -> list[tuple[str, str]]:
    return [(body["type"], body["message"]) for body in map(json.loads, text.splitlines())]


# -- compose


def test_the_plugin_tells_docker_and_compose_what_it_is(home: Path) -> None:
    about = json.loads(plugin(home, "docker-cli-plugin-metadata").stdout)
    assert (about["SchemaVersion"], about["Vendor"]) == ("0.1.0", "Harbourmaster")
    for words in (["compose", "metadata"], ["model", "compose", "metadata"]):
        body = json.loads(plugin(home, *words).stdout)
        assert body["up"]["parameters"] == PARAMETERS
        assert [p["name"] for p in PARAMETERS if p["required"]] == ["model"]


@pytest.mark.slow
def test_up_says_where_the_model_is_and_configures_it(server: Server) -> None:
    words = ["compose", "--project-name", "p", "up", "--model=ai/smollm2", "--context-size=4096", "llm"]
    environment = {**os.environ, "HM_HOME": str(server.home), "HM_RUNNER_URL": server.url}
    done = subprocess.run(
        [sys.executable, "-c", PLUGIN, *words], capture_output=True, check=True, text=True, env=environment
    )
    told = lines(done.stdout)
    assert ("setenv", "MODEL=ai/smollm2") in told
    assert ("setenv", f"URL={server.url}/engines/v1/") in told
    try:
        [shown] = server.get("/engines/_configure?model=ai/smollm2").json()
        assert shown["Config"]["context_size"] == 4096
    finally:
        assert hm(server.home, "configure", "ai/smollm2", "--context-size", "8192").returncode == 0
    assert plugin(server.home, "compose", "down", "--project-name", "p", "llm").returncode == 0


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["up", "llm"], "no model is named"),
        (["up", "--model=x", "--runtime-flags=--log-file /etc/passwd", "llm"], "flags for the backend"),
        (["up", "--model=x", "llm"], "no model runner answers"),
    ],
)
def test_up_fails_with_an_error_that_compose_shows(home: Path, words: list[str], why: str) -> None:
    home.mkdir()
    (home / "config.toml").write_text(f"runner_port = {free_port()}\n")
    done = plugin(home, "compose", *words)
    [(kind, message)] = lines(done.stdout)
    assert (kind, done.returncode) == ("error", 1)
    assert why in message


@pytest.mark.slow
def test_a_compose_file_s_models_element_is_served_as_compose_asks(server: Server) -> None:
    """What Compose runs for ``models:`` (docker/compose, pkg/compose/model.go); it reads stdout and stderr together."""
    environment = {**os.environ, "HM_HOME": str(server.home), "HM_RUNNER_URL": server.url}

    def asked(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", PLUGIN, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=True,
            text=True,
            env=environment,
        )
        return done.stdout

    assert "ai/smollm2:latest" in {tag for model in json.loads(asked("ls", "--json")) for tag in model["tags"]}
    assert json.loads(asked("status", "--json"))["endpoint"] == f"{server.url}/engines/v1/"
    assert server.get("/engines/v1/models").status_code == 200
    assert json.loads(asked("configure", "--context-size", "8192", "ai/smollm2:latest"))["context_size"] == 8192


def test_what_compose_would_drop_without_a_word_is_listed_and_refused(home: Path) -> None:
    """Compose passes the options that ``metadata`` names, and no others (docker/compose, pkg/compose/plugins.go)."""
    names = {p["name"] for p in PARAMETERS}
    assert {"runtime-flags", "backend"} <= names
    done = plugin(home, "compose", "--project-name=p", "up", "--model=x", "--backend=vllm", "llm")
    [(kind, message)] = lines(done.stdout)
    assert (kind, done.returncode) == ("error", 1)
    assert "other backends" in message


# -- files


def test_a_model_goes_from_home_to_home_through_a_file(model_home: Path, home: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.tar"
    assert hm(model_home, "export", "ai/smollm2", "-o", str(file)).returncode == 0
    done = hm(home, "import", str(file), "me/copy")
    assert done.returncode == 0, done.stderr
    assert ModelStore(home / "models").find("me/copy").id == ModelStore(model_home / "models").find("ai/smollm2").id
    broken = hm(home, "import", "-", data=b"noise")
    assert broken.returncode == 1
    assert b"runner.model_invalid" in broken.stderr
    assert hm(home, "package", "--from", "me/copy", "--context-size", "128", "me/short").returncode == 0
    assert ModelStore(home / "models").find("me/short").config.context_size == 128


# -- search


class Hubs(http.server.BaseHTTPRequestHandler):
    """Both services' answers, cut down to what their documentation promises."""

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        body: Any
        if self.path.startswith("/v2/namespaces/ai/repositories"):
            rows = [("qwen3", 900), ("smollm2", 500), ("embed", 50)]
            body = {
                "count": 3,
                "results": [{"name": n, "description": f"{n} model\nmore", "pull_count": c} for n, c in rows],
            }
        elif self.path.startswith("/api/models") and query["filter"] == ["gguf"]:
            body = [
                {"id": "someone/smollm2-gguf", "downloads": 700, "likes": 3, "lastModified": "2026-01-02T03:04:05Z"}
            ]
        else:
            body = {}
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hubs() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hubs) as hub:
        thread = threading.Thread(target=hub.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{hub.server_port}"
        hub.shutdown()
        thread.join()


def test_models_of_both_places_are_found_most_pulled_first(hubs: str) -> None:
    found = search("smollm2", source="all", limit=10, hub=hubs, hf=hubs)
    assert [(f.name, f.pulls) for f in found] == [("hf.co/someone/smollm2-gguf", 700), ("ai/smollm2", 500)]
    assert found[1].description == "smollm2 model more"
    assert [f.name for f in search("", source="dockerhub", limit=2, hub=hubs)] == ["ai/qwen3", "ai/smollm2"]


def test_a_place_that_does_not_answer_is_an_error_only_when_no_other_does(hubs: str) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    assert [f.source for f in search("smollm2", source="all", limit=10, hub=nowhere, hf=hubs)] == ["huggingface"]
    with pytest.raises(SearchUnavailable):
        search("x", source="all", limit=10, hub=nowhere, hf=nowhere)


# -- with a server


@pytest.mark.slow
def test_bench_measures_tokens_and_first_tokens(server: Server) -> None:
    done = hm(
        server.home,
        "bench",
        "smollm2",
        "--concurrency",
        "1,2",
        "--duration",
        "0.1s",
        "--tokens",
        "12",
        "--json",
        "--url",
        server.url,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    assert [r["concurrency"] for r in results] == [1, 2]
    for r in results:
        assert r["failed"] == 0
        assert r["requests"] >= r["concurrency"]
        assert r["tokens_per_second"] > 0
        assert 0 < r["first_token_ms_p50"] <= r["first_token_ms_p95"] <= 1000 * r["seconds"]


@pytest.mark.slow
def test_bench_of_an_unknown_model_fails_with_the_reason(server: Server) -> None:
    done = hm(server.home, "bench", "nobody/nothing", "--duration", "0.1s", "--url", server.url)
    assert done.returncode == 1
    assert b"no model nobody/nothing" in done.stderr


@pytest.mark.slow
def test_logs_show_what_engines_said(server: Server) -> None:
    assert server.post("/v1/completions", {"model": "smollm2", "prompt": "a", "max_tokens": 1}).status_code == 200
    done = hm(server.home, "logs", "--url", server.url)
    assert done.returncode == 0
    assert all(line.startswith(b"ai/smollm2:latest: ") for line in done.stdout.splitlines())
