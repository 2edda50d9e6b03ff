"""Pictures through real engines: tiny models with random weights, so that only the way of the picture is under test."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import ollama
import openai
import pytest

from runner.chat.job import ChatJob, Done, Text
from runner.chat.toolcalls import chat
from runner.engine.client import EngineProcess
from runner.engine.spec import EngineSpec
from runner.errors import EngineDied, ImageInvalid, LoadFailed, PromptTooLong, RequestTooLarge, Unsupported
from runner.store.package import Parts, package
from runner.store.store import ModelStore
from tests.runner.conftest import Server, serve
from tests.runner.test_picture_files import data_url, picture, png_of_size
from tests.runner.visionfiles import GEMMA, LLAVA, QWEN, Kind, language_model, png, projector

KINDS = pytest.mark.parametrize("kind", [LLAVA, GEMMA, QWEN], ids=lambda kind: kind.projector)
SAME = 0.02  # natural logarithm: batches add in another order
QUESTION = "what is it?"


@pytest.fixture(scope="module")
def files(engine_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eyes")
    for kind in (LLAVA, GEMMA, QWEN):
        language_model(folder / f"{kind.projector}.gguf", kind)
        projector(folder / f"{kind.projector}.mmproj", kind)
    return folder


def spec(files: Path, kind: Kind, **changes: Any) -> EngineSpec:
    weights, eyes = files / f"{kind.projector}.gguf", files / f"{kind.projector}.mmproj"
    return EngineSpec("tiny", (str(weights),), **{"context": 1024, "threads": 1, "mmproj": str(eyes), **changes})


def question(*pictures: bytes, text: str = QUESTION) -> ChatJob:
    parts = [*(picture(p) for p in pictures), {"type": "text", "text": text}]
    options = {"temperature": 0, "max_tokens": 1, "logprobs": 20, "ignore_eos": True}
    return ChatJob([{"role": "user", "content": parts}], options, tool_choice="none")


async def likelihoods(engine: EngineProcess, job: ChatJob) -> tuple[dict[bytes, float], Done]:
    """The likeliest first words with the logarithms of their probabilities."""
    found: dict[bytes, float] = {}
    done = None
    async for event in chat(engine, job):
        if isinstance(event, Text):
            for logprob in event.logprobs:
                found = {bytes(t["bytes"]): t["logprob"] for t in logprob["top_logprobs"]}
        elif isinstance(event, Done):
            done = event
    assert done is not None
    assert found
    return found, done


def distance(left: dict[bytes, float], right: dict[bytes, float]) -> float:
    shared = set(left) & set(right)
    return max((abs(left[k] - right[k]) for k in shared), default=100.0) if len(shared) > 15 else 100.0


@KINDS
async def test_a_model_sees_what_llama_cpp_sees(files: Path, kind: Kind, tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    file.write_bytes(png(1, 120, 90))
    weights, eyes = files / f"{kind.projector}.gguf", files / f"{kind.projector}.mmproj"
    prompt = f"<|im_start|>user\n<__media__>\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    script = Path(__file__).with_name("reference_eyes.py")
    command = [sys.executable, str(script), str(weights), str(eyes), str(file), prompt]
    said = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True)
    reference = json.loads(said.stdout)
    engine = await EngineProcess.start(spec(files, kind))
    try:
        ours, done = await likelihoods(engine, question(file.read_bytes()))
    finally:
        await engine.stop()
    assert done.usage.prompt_tokens == reference["tokens"]
    best = sorted(reference["logprobs"], reverse=True)[:20]
    assert max(abs(a - b) for a, b in zip(sorted(ours.values(), reverse=True), best, strict=True)) < SAME


@KINDS
async def test_another_picture_is_another_prompt_and_the_same_is_the_same(files: Path, kind: Kind) -> None:
    engine = await EngineProcess.start(spec(files, kind))
    try:
        first, _ = await likelihoods(engine, question(png(1, 120, 90)))
        other, _ = await likelihoods(engine, question(png(2, 120, 90)))
        again, done = await likelihoods(engine, question(png(1, 120, 90)))
        none, _ = await likelihoods(engine, question())
        both, _ = await likelihoods(engine, question(png(1, 120, 90), png(2, 120, 90)))
    finally:
        await engine.stop()
    assert distance(first, again) < SAME
    assert min(distance(first, x) for x in (other, none, both)) > 5 * SAME
    assert (
        done.usage.cached_tokens > done.usage.prompt_tokens / 2
    )  # what the memory held of the picture was not computed again


@KINDS
async def test_many_pictures_at_once_are_seen_as_if_alone(files: Path, kind: Kind) -> None:
    pictures = [png(seed, 60 + 40 * seed, 90) for seed in range(5)]
    alone = []
    engine = await EngineProcess.start(spec(files, kind, slots=4, running=4, batch=64 if kind is not GEMMA else 512))
    try:
        for data in pictures:
            alone.append((await likelihoods(engine, question(data, text="alone: what is it?")))[0])
        jobs = [question(data, text="alone: what is it?") for data in pictures]
        texts = [question(text=f"{i}" * 40) for i in range(4)]
        crowd = await asyncio.gather(*(likelihoods(engine, job) for job in [*jobs, *texts, *jobs]))
    finally:
        await engine.stop()
    for index, data in enumerate([*range(5), *range(9, 14)]):
        assert distance(crowd[data][0], alone[index % 5]) < SAME


@pytest.mark.parametrize("kind", [LLAVA, QWEN], ids=lambda kind: kind.projector)
async def test_a_sequence_sent_back_for_want_of_room_sees_its_picture_again(files: Path, kind: Kind) -> None:
    engine = await EngineProcess.start(spec(files, kind, context=256, cells=256, slots=6, running=6))
    jobs = []
    for seed in range(6):
        job = question(png(seed, 120, 90), text="what is it? " * 4)
        jobs.append(ChatJob(job.messages, {**job.options, "max_tokens": 60}, tool_choice="none"))
    try:
        done = [d for _, d in await asyncio.gather(*(likelihoods(engine, job) for job in jobs))]
    finally:
        await engine.stop()
    assert [d.usage.completion_tokens for d in done] == [60] * 6


async def test_hostile_pictures_fail_alone(files: Path) -> None:
    engine = await EngineProcess.start(spec(files, LLAVA))
    long = ChatJob([{"role": "user", "content": "go on"}], {"max_tokens": 200, "ignore_eos": True}, tool_choice="none")

    async def other() -> Done:
        [done] = [e async for e in chat(engine, long) if isinstance(e, Done)]
        return done

    try:
        pid, running = engine.pid, asyncio.ensure_future(other())
        for data in (png_of_size(60_000, 60_000), png_of_size(900, 900), b"no picture", png(1)[:70]):
            with pytest.raises(ImageInvalid):
                await likelihoods(engine, question(data))
        assert (await running).usage.completion_tokens == 200
        await likelihoods(engine, question(png(1)))
        assert engine.alive
        assert engine.pid == pid
    finally:
        await engine.stop()


async def test_a_request_larger_than_a_frame_fails_alone(files: Path) -> None:
    engine = await EngineProcess.start(spec(files, LLAVA))
    try:
        with pytest.raises(RequestTooLarge):
            await engine.ask({"op": "count", "prompt": "x" * (65 << 20)})
        assert await engine.ask({"op": "count", "prompt": "x"}) == 1
    finally:
        await engine.stop()


async def test_a_prompt_too_long_is_refused_before_and_after_its_pictures_are_looked_at(files: Path) -> None:
    engine = await EngineProcess.start(spec(files, QWEN, context=256))
    try:
        with pytest.raises(PromptTooLong):
            await likelihoods(engine, question(png(1), text="word " * 300))
        with pytest.raises(PromptTooLong):
            await likelihoods(engine, question(*(png(i, 224, 224) for i in range(8))))
    finally:
        await engine.stop()


async def test_a_model_without_a_projector_says_that_it_reads_text_only(files: Path) -> None:
    engine = await EngineProcess.start(spec(files, LLAVA, mmproj=""))
    try:
        with pytest.raises(Unsupported, match="reads text only"):
            await likelihoods(engine, question(png(1)))
    finally:
        await engine.stop()


async def test_a_picture_that_must_be_computed_at_once_and_cannot_is_refused(files: Path) -> None:
    engine = await EngineProcess.start(spec(files, GEMMA, batch=3))  # its projector makes four rows
    try:
        with pytest.raises(Unsupported, match="4 rows of a picture at once"):
            await likelihoods(engine, question(png(1)))
        assert engine.alive
    finally:
        await engine.stop()


async def test_a_request_given_up_while_its_pictures_are_looked_at_leaves_nothing(files: Path) -> None:
    engine = await EngineProcess.start(spec(files, QWEN))
    try:
        for seed in range(4):
            answers = engine.stream(
                {"op": "generate", **_frame(question(png(seed, 800, 600), png(seed + 9, 800, 600)))}
            )
            waiting = asyncio.ensure_future(anext(answers))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        await likelihoods(engine, question(png(1)))
        stats = await engine.ask({"op": "stats"})
        assert (stats["running"], stats["waiting"]) == (0, 0)
    finally:
        await engine.stop()


def _frame(job: ChatJob) -> dict[str, Any]:
    from runner.chat.toolcalls import _plain_frame

    return _plain_frame(job)


async def test_a_projector_of_another_model_is_refused_and_the_runner_lives(files: Path, tmp_path: Path) -> None:
    eyes = projector(tmp_path / "other.mmproj", LLAVA, width=32)
    with pytest.raises(LoadFailed, match="projector"):
        await EngineProcess.start(spec(files, LLAVA, mmproj=str(eyes)))
    eyes = projector(tmp_path / "odd.mmproj", LLAVA, **{"clip.projector_type": "of nobody"})
    with pytest.raises(LoadFailed, match="projector"):
        await EngineProcess.start(spec(files, LLAVA, mmproj=str(eyes)))


async def test_a_projector_that_cannot_compute_ends_its_own_process_while_it_loads(files: Path, tmp_path: Path) -> None:
    eyes = projector(
        tmp_path / "odd.mmproj", LLAVA, **{"clip.vision.attention.head_count": 3}
    )  # 32 is no multiple of it
    with pytest.raises((EngineDied, LoadFailed)) as e:
        await EngineProcess.start(spec(files, LLAVA, mmproj=str(eyes)))
    assert "tiny" in e.value.message or "projector" in e.value.message


# -- through the server


@pytest.fixture(scope="module")
def seeing(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("seeing-home")
    store = ModelStore(home / "models")
    for kind, name in ((LLAVA, "ai/eyes"), (QWEN, "ai/qwen-eyes")):
        package(store, Parts((files / f"{kind.projector}.gguf",), mmproj=files / f"{kind.projector}.mmproj"), name)
    package(store, Parts((files / f"{LLAVA.projector}.gguf",)), "ai/blind")
    with serve(home) as started:
        yield started


def test_clients_of_openai_anthropic_and_ollama_send_the_same_picture(seeing: Server) -> None:
    data = png(1)
    encoded = base64.b64encode(data).decode()
    with openai.OpenAI(base_url=f"{seeing.url}/v1", api_key="none") as ours:
        tokens = _openai_tokens(ours, data)
    with anthropic.Anthropic(base_url=f"{seeing.url}/anthropic", api_key="none") as theirs:
        block: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": encoded}}
        content: Any = [{"role": "user", "content": [block, {"type": "text", "text": QUESTION}]}]
        message = theirs.messages.create(model="ai/eyes", max_tokens=2, messages=content)
        assert message.usage.input_tokens == tokens
        assert theirs.messages.count_tokens(model="ai/eyes", messages=content).input_tokens == tokens
    with ollama.Client(host=seeing.url) as third:
        asked = [{"role": "user", "content": QUESTION, "images": [data]}]
        assert third.chat("ai/eyes", asked, options={"num_predict": 2}).prompt_eval_count == tokens
        assert (
            third.generate("ai/eyes", QUESTION, images=[data], options={"num_predict": 2}).prompt_eval_count == tokens
        )
        assert "vision" in (third.show("ai/eyes").capabilities or [])
        assert "vision" not in (third.show("ai/blind").capabilities or [])


def _openai_tokens(ours: openai.OpenAI, data: bytes) -> int:
    """Tokens of the prompt, which chat completions and responses agree on."""
    parts: list[Any] = [{"type": "image_url", "image_url": {"url": data_url(data)}}, {"type": "text", "text": QUESTION}]
    answer = ours.chat.completions.create(
        model="ai/eyes", messages=[{"role": "user", "content": parts}], max_tokens=2, temperature=0
    )
    assert answer.usage is not None
    tokens = answer.usage.prompt_tokens

    response = ours.responses.create(
        model="ai/eyes",
        max_output_tokens=16,
        input=[
            {
                "role": "user",
                "content": [
                    {"type": "input_image", "image_url": data_url(data), "detail": "auto"},
                    {"type": "input_text", "text": QUESTION},
                ],
            }
        ],
    )
    assert response.usage is not None
    assert response.usage.input_tokens == tokens

    return tokens


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("http://127.0.0.1:1/a.png", "runner.unsupported", "fetches no pictures"),
        (data_url(png_of_size(60_000, 60_000)), "runner.image_invalid", "60000 x 60000"),
        (data_url(b"no picture"), "runner.image_invalid", "no PNG"),
    ],
    ids=["address", "bomb", "text"],
)
def test_bad_pictures_are_bad_requests(seeing: Server, url: str, code: str, said: str) -> None:
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": QUESTION}]
    for stream in (False, True):
        body = {"model": "ai/qwen-eyes", "messages": [{"role": "user", "content": parts}], "stream": stream}
        answer = seeing.post("/v1/chat/completions", body)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == code
        assert said in answer.json()["error"]["message"]


def test_the_command_line_shows_a_model_a_picture(seeing: Server, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(png(1))
    command = [sys.executable, "-m", "harbourmaster", "model", "run", "ai/eyes", QUESTION, "--image", str(file)]
    command += ["--max-tokens", "3", "--url", seeing.url]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "HM_HOME": str(seeing.home)}, check=False)
    assert done.returncode == 0, done.stderr
    file.write_bytes(b"no picture")
    done = subprocess.run(command, capture_output=True, env={**os.environ, "HM_HOME": str(seeing.home)}, check=False)
    assert done.returncode == 1
    assert b"no PNG" in done.stderr


def test_a_blind_model_refuses_in_each_dialect(seeing: Server) -> None:
    encoded = base64.b64encode(png(1)).decode()
    message = {"role": "user", "content": QUESTION, "images": [encoded]}
    answer = seeing.post("/api/chat", {"model": "ai/blind", "messages": [message]})
    assert answer.status_code == 400
    assert "reads text only" in answer.json()["error"]


def test_a_file_that_is_no_projector_is_not_packaged(files: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "harbourmaster", "model", "package", "x", "--gguf", str(files / "mlp.gguf")]
    command += ["--mmproj", str(files / "gemma3.gguf")]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "HM_HOME": str(tmp_path)}, check=False
    )
    assert done.returncode == 2
    assert "is no projector" in done.stderr
