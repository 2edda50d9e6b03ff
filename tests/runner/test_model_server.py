"""The server as a whole: an engine that dies, a client that leaves, many at once, tokens, and the command line."""

from __future__ import annotations

import concurrent.futures
import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from harbourmaster.core.settings import Settings
from runner.api.app import create_app
from runner.engine.native import load_library
from runner.errors import DiskFull, EngineMissing
from runner.install import LOCK, entries
from runner.server import token, token_file
from runner.service import Runner
from runner.store import transfer
from tests.runner.conftest import Server
from tests.runner.sure import SURE

QUESTION = [{"role": "user", "content": "What is a container?"}]


@pytest.mark.slow
def test_an_engine_killed_in_mid_stream_fails_its_request_and_the_next_one_loads_it_again(server: Server) -> None:
    ask = {"model": "smollm2", "messages": QUESTION, "stream": True, "ignore_eos": True}
    with httpx2.stream("POST", f"{server.url}/v1/chat/completions", json=ask, timeout=60) as answer:
        lines = answer.iter_lines()
        next(lines)
        children = subprocess.run(
            ["ps", "--ppid", str(server.process.pid), "-o", "pid="], capture_output=True, text=True, check=True
        ).stdout.split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        rest = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert rest[-1]["error"]["code"] == "runner.engine_died"
    again = server.post("/v1/chat/completions", {"model": "smollm2", "messages": QUESTION, "max_tokens": 2})
    assert again.status_code == 200
    assert server.get("/engines/departures").json()[-1]["why"] == "its process died"


@pytest.mark.slow
def test_many_at_once_get_the_same_greedy_answer(server: Server) -> None:
    ask = {"model": "smollm2", "messages": SURE, "max_tokens": 12, "temperature": 0}

    def once(_: int) -> str:
        return server.post("/v1/chat/completions", ask).json()["choices"][0]["message"]["content"]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(once, range(8)))) == 1


@pytest.mark.slow
def test_a_client_that_leaves_is_not_answered_further(server: Server) -> None:
    ask = {"model": "smollm2", "messages": QUESTION, "stream": True, "ignore_eos": True}
    with httpx2.stream("POST", f"{server.url}/v1/chat/completions", json=ask, timeout=60) as answer:
        next(answer.iter_lines())
    for _ in range(200):
        [entry] = server.get("/engines/ps").json()
        if not entry["in_use"]:
            return
    pytest.fail("the request went on after its client had left")


@pytest.mark.slow
@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"x"', b"\xff\xfe", b'{"model": 5}', b"[" * 100_000])
def test_a_body_that_is_no_request_is_a_bad_request(server: Server, body: bytes) -> None:
    answer = httpx2.post(f"{server.url}/v1/chat/completions", content=body, timeout=60)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.slow
def test_a_body_without_end_is_cut_off(server: Server) -> None:
    answer = httpx2.post(f"{server.url}/v1/chat/completions", content=b" " * (11 << 20), timeout=60)
    assert answer.status_code == 413


@pytest.mark.slow
def test_the_command_line_asks_once_without_a_server(engine_installed: None, model_home: Path) -> None:
    command = [sys.executable, "-m", "harbourmaster", "model", "run", "smollm2", "Say hi", "--max-tokens", "4"]
    environment = {**os.environ, "HM_HOME": str(model_home), "HM_RUNNER_URL": "http://127.0.0.1:9"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def hm(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harbourmaster", "model", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "HM_HOME": str(home)},
        check=False,
        timeout=120,
    )


def test_listing_tagging_and_removing_on_the_command_line(tmp_path: Path) -> None:
    from tests.runner.gguffile import GgufFile

    weights = GgufFile().write(tmp_path / "m.gguf")
    home = tmp_path / "home"
    assert hm(home, "package", "me/tiny", "--gguf", str(weights)).returncode == 0
    assert hm(home, "tag", "me/tiny", "me/other:v1").returncode == 0
    listed = json.loads(hm(home, "ls", "--json").stdout)
    assert listed[0]["tags"] == ["me/other:v1", "me/tiny:latest"]
    assert "MODEL NAME" in hm(home, "ls").stdout
    assert hm(home, "rm", "me/tiny", "me/other:v1").returncode == 0
    gone = hm(home, "inspect", "me/tiny")
    assert gone.returncode == 1
    assert "error [runner.model_not_found]" in gone.stderr


async def _get(app: object, headers: dict[str, str]) -> int:
    transport = httpx2.ASGITransport(app=app)  # type: ignore[arg-type]
    async with httpx2.AsyncClient(transport=transport, base_url="http://runner.example") as client:
        return (await client.get("/v1/models", headers=headers)).status_code


async def test_beyond_loopback_every_request_needs_the_token(settings: Settings) -> None:
    secret = token(settings)
    assert token(settings) == secret
    assert token_file(settings).stat().st_mode & 0o077 == 0
    app = create_app(Runner.open(settings), allowed_hosts=("*",), token=secret)
    assert await _get(app, {}) == 401
    assert await _get(app, {"Authorization": "Bearer wrong"}) == 401
    assert await _get(app, {"Authorization": f"Bearer {secret}"}) == 200
    assert await _get(app, {"X-Api-Key": secret}) == 200


def test_without_the_engine_the_remedy_is_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    with pytest.raises(EngineMissing) as missing:
        load_library()
    assert missing.value.remedy == "run: hm model install"


def test_the_engine_s_lock_pins_it_and_what_builds_it() -> None:
    pins = entries(LOCK.read_text())
    for name in ("llama-cpp-python", "scikit-build-core", "cmake", "ninja"):
        assert "==" in pins[name]
        assert "--hash=sha256:" in pins[name]


def test_a_full_disk_is_told_as_one(tmp_path: Path) -> None:
    with pytest.raises(DiskFull), transfer._disk(tmp_path / ("0" * 64)):
        raise OSError(errno.ENOSPC, "No space left on device")
