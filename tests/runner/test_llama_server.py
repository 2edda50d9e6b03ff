"""llama.cpp's own server as a backend: a real one, where HM_TEST_LLAMA_SERVER or the PATH names it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import openai
import pytest

from runner.chat.job import ChatJob, Done, Text, ToolCall
from runner.chat.toolcalls import chat
from runner.configuration import Configurations
from runner.engine.llama_server import BACKEND, SOCKET, VARIABLE, LlamaServer, arguments, find_program
from runner.engine.spec import EngineSpec
from runner.errors import EngineDied, EngineMissing, GgufInvalid, LoadFailed, PromptTooLong, RequestInvalid, Unsupported
from runner.store.store import ModelStore
from tests.runner.conftest import Server, serve
from tests.runner.sure import SURE
from tests.runner.test_openai_client import QUESTION, WEATHER
from tests.runner.test_picture_files import picture
from tests.runner.visionfiles import LLAVA, language_model, png, projector

PROGRAM = shutil.which(os.environ.get("HM_TEST_LLAMA_SERVER") or BACKEND)
real = pytest.mark.skipif(
    not PROGRAM, reason="no llama-server: name one in HM_TEST_LLAMA_SERVER, or put it on the PATH"
)


@pytest.fixture(autouse=True)
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, PROGRAM or BACKEND)


@pytest.fixture
def spec(smollm2: Path) -> EngineSpec:
    return EngineSpec("ai/smollm2", (str(smollm2),), context=1024, threads=1, running=2, backend=BACKEND)


def job(text: str, **options: object) -> ChatJob:
    return ChatJob(
        [{"role": "user", "content": text}], {"temperature": 0, "max_tokens": 8, **options}, tool_choice="none"
    )


async def answer(engine: LlamaServer, asked: ChatJob) -> tuple[str, Done]:
    text, done = "", None
    async for event in chat(engine, asked):
        if isinstance(event, Text):
            text += event.text
        elif isinstance(event, Done):
            done = event
    assert done is not None
    return text, done


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_its_arguments_are_made_of_typed_settings(tmp_path: Path) -> None:
    spec = EngineSpec(
        "x",
        ("a",),
        context=100,
        cells=400,
        running=3,
        threads=2,
        gpu_layers=0,
        template="{{ x }}",
        loras=(("l", 0.5),),
        mmproj="m",
    )
    words = arguments(spec, tmp_path, tmp_path / "model.gguf")
    pairs = dict(pairwise(words))
    assert pairs["--host"] == str(tmp_path / SOCKET)
    assert (pairs["--ctx-size"], pairs["--parallel"], pairs["--threads"], pairs["--n-gpu-layers"]) == (
        "400",
        "3",
        "2",
        "0",
    )
    assert (pairs["--lora-scaled"], pairs["--mmproj"]) == ("l:0.5", "m")
    assert "--port" not in words


def test_a_backend_is_chosen_by_name_and_only_a_known_one(model_home: Path, tmp_path: Path) -> None:
    configurations, model = Configurations(tmp_path / "c.json"), ModelStore(model_home / "models").find("ai/smollm2")
    assert configurations.change(model, {"backend": BACKEND}).backend == BACKEND
    with pytest.raises(RequestInvalid, match="no backend"):
        configurations.change(model, {"backend": "/bin/sh"})


def test_without_the_program_the_error_says_how_to_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "/nowhere/llama-server")
    with pytest.raises(EngineMissing) as e:
        find_program()
    assert VARIABLE in e.value.remedy


def test_a_program_that_is_not_ours_ends_with_its_parent(tmp_path: Path) -> None:
    """A parent that is killed cannot end anything; the kernel does."""
    parent = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'runner.engine.bound', str(os.getpid()), '/bin/sleep', '600'])\n"
        "while b'sleep' not in open(f'/proc/{child.pid}/cmdline', 'rb').read()[:20]: time.sleep(0.01)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    assert alive(child)
    process.kill()
    process.wait()
    process.stdout.close()
    _until_gone(child)


def _until_gone(pid: int) -> None:
    subprocess.run(["timeout", "20", "tail", f"--pid={pid}", "-f", "/dev/null"], check=True)


@real
@pytest.mark.slow
async def test_it_answers_streams_and_counts(spec: EngineSpec) -> None:
    engine = await LlamaServer.start(spec)
    try:
        asked = ChatJob(SURE, {"temperature": 0, "max_tokens": 12, "logprobs": 2}, tool_choice="none")
        events = [e async for e in chat(engine, asked)]
        text = "".join(e.text for e in events if isinstance(e, Text))
        assert text.startswith("A B C")
        assert len([e for e in events if isinstance(e, Text)]) > 3
        assert any(e.logprobs for e in events if isinstance(e, Text))
        [done] = [e for e in events if isinstance(e, Done)]
        assert (done.usage.completion_tokens, done.reason) == (12, "length")
        counted = await engine.ask({"op": "count", "messages": SURE})
        assert abs(counted - done.usage.prompt_tokens) <= 1  # a first token is added to prompts, not to texts
        assert engine.resident_bytes() > 50 << 20
        assert engine.ready["context"] == 1024
    finally:
        await engine.stop()
    assert not alive(engine.pid)


@real
@pytest.mark.slow
async def test_its_socket_is_for_this_user_only_and_goes_with_it(spec: EngineSpec) -> None:
    engine = await LlamaServer.start(spec)
    folder = engine._folder
    try:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_ISSOCK((folder / SOCKET).stat().st_mode)
        assert not _listens(engine.pid)
    finally:
        await engine.stop()
    assert not folder.exists()


def _listens(pid: int) -> bool:
    """Does one of the process's sockets listen on a port?  (``/proc/net/tcp``: state 0A, inode in the tenth field.)"""
    tables = [Path("/proc/net/tcp").read_text(), Path("/proc/net/tcp6").read_text()]
    rows = [line.split() for table in tables for line in table.splitlines()[1:]]
    inodes = {f"socket:[{row[9]}]" for row in rows if row[3] == "0A"}
    return any(str(link.readlink()) in inodes for link in Path(f"/proc/{pid}/fd").iterdir())


@real
@pytest.mark.slow
async def test_its_death_is_an_error_of_its_requests_with_its_last_words(spec: EngineSpec) -> None:
    gone = asyncio.Event()
    engine = await LlamaServer.start(spec, on_exit=gone.set)
    try:
        events = chat(engine, job("Count to one thousand.", max_tokens=900, ignore_eos=True))
        assert isinstance(await anext(events), Text)
        os.kill(engine.pid, signal.SIGKILL)
        with pytest.raises(EngineDied, match="SIGKILL"):
            async for _ in events:
                pass
        await asyncio.wait_for(gone.wait(), 10)
        assert not engine.alive
        with pytest.raises(EngineDied):
            await answer(engine, job("Hi"))
    finally:
        await engine.stop()


def _cut(source: Path, target: Path) -> Path:
    target.write_bytes(source.read_bytes()[:100_000])
    return target


@real
@pytest.mark.slow
async def test_what_it_cannot_load_is_an_error_with_its_words(spec: EngineSpec, tmp_path: Path) -> None:
    broken = _cut(Path(spec.paths[0]), tmp_path / "broken.gguf")
    with pytest.raises(GgufInvalid):
        await LlamaServer.start(EngineSpec("x", (str(broken),), context=256, backend=BACKEND))
    eyes = projector(tmp_path / "eyes.gguf", LLAVA)
    with pytest.raises(LoadFailed, match="while it loaded"):
        await LlamaServer.start(EngineSpec("x", (str(eyes),), context=256, backend=BACKEND))


@real
@pytest.mark.slow
async def test_tools_are_called_and_checked_and_long_prompts_refused_with_the_numbers(spec: EngineSpec) -> None:
    engine = await LlamaServer.start(spec)
    tool = {"name": "get_weather", "description": "Weather", "parameters": WEATHER["function"]["parameters"]}
    try:
        asked = ChatJob(QUESTION, {"temperature": 0, "max_tokens": 200}, [tool], "required", parallel=False)
        calls = [e for e in [e async for e in chat(engine, asked)] if isinstance(e, ToolCall)]
        assert [c.name for c in calls] == ["get_weather"]
        with pytest.raises(PromptTooLong, match="1024"):
            await answer(engine, job("word " * 3000))
        with pytest.raises(Unsupported):
            await engine.ask({"op": "embed", "inputs": ["a"]})
        grammar = job("Yes or no?", grammar='root ::= "maybe"')
        assert (await answer(engine, grammar))[0] == "maybe"
    finally:
        await engine.stop()


@real
@pytest.mark.slow
async def test_pictures_reach_it(engine_installed: None, tmp_path: Path) -> None:
    weights, eyes = language_model(tmp_path / "a.gguf", LLAVA), projector(tmp_path / "b.gguf", LLAVA)
    engine = await LlamaServer.start(
        EngineSpec("tiny", (str(weights),), context=512, threads=1, running=1, backend=BACKEND, mmproj=str(eyes))
    )
    text = {"type": "text", "text": "what?"}
    options = {"temperature": 0, "max_tokens": 2, "ignore_eos": True}
    try:
        jobs = [
            ChatJob([{"role": "user", "content": parts}], options, tool_choice="none")
            for parts in ([picture(png(1)), text], [text])
        ]
        with_picture, without = [(await answer(engine, asked))[1].usage.prompt_tokens for asked in jobs]
    finally:
        await engine.stop()
    assert with_picture >= without + 16  # rows of a picture of this projector


@pytest.fixture(scope="module")
def backed(model_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`hm model serve` whose model runs in llama-server, as a person configures it."""
    if not PROGRAM:
        pytest.skip("no llama-server")
    home = tmp_path_factory.mktemp("backed")
    shutil.copytree(model_home / "models", home / "models")
    command = [sys.executable, "-m", "harbourmaster", "model", "configure", "ai/smollm2", "--backend", BACKEND]
    done = subprocess.run(command, env={**os.environ, "HM_HOME": str(home)}, capture_output=True, check=True)
    assert json.loads(done.stdout)["backend"] == BACKEND
    with serve(home, **{VARIABLE: PROGRAM}) as started:
        yield started


@real
@pytest.mark.slow
def test_a_configured_model_runs_in_it_behind_the_same_names(backed: Server) -> None:
    with openai.OpenAI(base_url=f"{backed.url}/v1", api_key="none", max_retries=0) as client:
        said = client.chat.completions.create(model="ai/smollm2", messages=SURE, max_tokens=6, temperature=0)  # type: ignore[arg-type]
    assert (said.choices[0].message.content or "").startswith("A B C")
    [entry] = backed.get("/engines/ps").json()
    assert entry["backend_name"] == BACKEND
    assert entry["memory"] > 50 << 20
    assert backed.post("/engines/unload", {"all": True}).json() == {"unloaded_runners": 1}
    assert backed.get("/engines/ps").json() == []


@real
@pytest.mark.slow
def test_a_runner_that_is_killed_leaves_no_server_behind(backed: Server) -> None:
    body = {"model": "ai/smollm2", "messages": QUESTION, "max_tokens": 1}
    assert backed.post("/v1/chat/completions", body).status_code == 200
    children = Path(f"/proc/{backed.process.pid}/task/{backed.process.pid}/children").read_text().split()
    [child] = [int(c) for c in children if b"llama" in Path(f"/proc/{c}/cmdline").read_bytes()]
    backed.process.kill()
    backed.process.wait()
    _until_gone(child)
