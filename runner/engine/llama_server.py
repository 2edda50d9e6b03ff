"""An engine that is llama.cpp's own ``llama-server``, where a person installed one and chose it for a model.

A process of its own for each loaded model, on a Unix socket in a folder that only this user may enter: nothing listens on a
port.  Its arguments are made of typed settings; none come from a request.  It is spoken to as any server of OpenAI's API is.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx2

from harbourmaster.core.errors import HarbourError
from runner.agent.models import OpenAIModel
from runner.chat.job import ChatEvent, ChatJob, Done, Text, Usage
from runner.chat.toolcalls import CallReader, frame_of, read_calls
from runner.chat.toolformat import GENERIC
from runner.engine.client import GRACE_S, LOG_LINES, environment, how_it_ended, last_words, resident_bytes_of
from runner.engine.remote import RemoteEngine
from runner.engine.spec import EngineSpec
from runner.errors import EngineDied, EngineFailed, EngineMissing, LoadFailed, RunnerDown, Unsupported
from runner.gguf import check_file

BACKEND = "llama-server"
VARIABLE = "HM_LLAMA_SERVER"  # the program, where it is not on the PATH
SOCKET = "llama.sock"  # the ending makes llama-server take the name for a socket's (tools/server/README.md, ``--host``)
LOAD_S = 600.0
POLL_S = 0.1


def find_program() -> str:
    """Raises ``EngineMissing``."""
    found = shutil.which(os.environ.get(VARIABLE) or BACKEND)
    if not found:
        raise EngineMissing(
            f"{BACKEND} is not installed",
            remedy=f"put it on the runner's PATH, or name it in {VARIABLE}",
            program=BACKEND,
        )
    return str(Path(found).absolute())


def arguments(spec: EngineSpec, folder: Path, weights: Path) -> list[str]:
    """``folder``: where its socket goes; ``weights``: the model, or the first of its files."""
    words = ["--model", str(weights), "--host", str(folder / SOCKET), "--alias", spec.name]
    words += ["--ctx-size", str(max(spec.cells, spec.context)), "--parallel", str(spec.running), "--kv-unified"]
    words += ["--n-gpu-layers", str(spec.gpu_layers if spec.gpu_layers >= 0 else 999)]
    words += ["--no-webui", "--no-context-shift", "--jinja", "--offline"]
    if spec.threads:
        words += ["--threads", str(spec.threads)]
    if spec.mmproj:
        words += ["--mmproj", spec.mmproj]
    if spec.template:
        words += ["--chat-template-file", str(folder / "template.jinja")]
    for path, scale in spec.loras:
        words += ["--lora-scaled", f"{path}:{scale:g}"]
    return words


class LlamaServer(RemoteEngine):
    def __init__(
        self, spec: EngineSpec, process: asyncio.subprocess.Process, folder: Path, on_exit: Callable[[], None]
    ) -> None:
        super().__init__(spec)
        self.log = deque(maxlen=LOG_LINES)
        self.pid = process.pid
        self._process, self._folder, self._on_exit = process, folder, on_exit
        self._stopping = False
        self._model = OpenAIModel("http://llama-server/v1", spec.name, socket=str(folder / SOCKET))
        self._watching = asyncio.create_task(self._watch())

    @classmethod
    async def start(cls, spec: EngineSpec, *, on_exit: Callable[[], None] = lambda: None) -> LlamaServer:
        """Raises ``EngineMissing``, ``GgufInvalid``, ``LoadFailed`` or ``EngineDied``."""
        program = find_program()
        for path in (*spec.paths, *(path for path, _ in spec.loras), *([spec.mmproj] if spec.mmproj else [])):
            check_file(Path(path))  # before the C library sees it
        folder = Path(tempfile.mkdtemp(prefix="hm-llama-"))
        try:
            words = arguments(spec, folder, _lay_out(spec, folder))
            process = await _spawn([program, *words])
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        engine = cls(spec, process, folder, on_exit)
        try:
            await engine._loaded()
        except BaseException:
            await engine.stop()
            raise
        return engine

    def resident_bytes(self) -> int:
        return resident_bytes_of(self.pid)

    async def stop(self) -> None:
        """Idempotent."""
        self._stopping, self.alive = True, False
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), GRACE_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        await self._watching
        shutil.rmtree(self._folder, ignore_errors=True)

    async def chat(self, job: ChatJob) -> AsyncGenerator[ChatEvent, None]:
        if not self.alive:
            raise self._death()
        try:
            async with aclosing(self._calls(job) if _must_call(job) else super().chat(job)) as events:
                async for event in events:
                    yield event
        except (RunnerDown, EngineFailed) as e:
            if await self._ended():
                raise self._death() from e
            raise

    async def _calls(self, job: ChatJob) -> AsyncGenerator[ChatEvent, None]:
        """Calls that are required, under a grammar of ours: this server does not see to them with every template."""
        asked = frame_of(job, GENERIC, str(self.ready["template"]), lazy=False)
        reader, done = CallReader(GENERIC, started=True), Done("stop", Usage())
        plain = ChatJob(asked["messages"], asked["options"], tool_choice="none", template_args=job.template_args)
        async with aclosing(super().chat(plain)) as events:
            async for event in events:
                if isinstance(event, Text):
                    reader.push(event.text)
                elif isinstance(event, Done):
                    done = event
        if done.reason == "stop":  # half a call is none
            for call in read_calls(GENERIC, reader.calls_text, {t["name"]: t for t in job.tools}):
                yield call
        yield Done("tool_calls" if done.reason == "stop" else done.reason, done.usage)

    async def ask(self, frame: dict[str, Any]) -> Any:
        if frame["op"] != "count" or frame.get("images"):
            raise Unsupported(
                f"{self.spec.name} runs in {BACKEND}, which is asked for chat only: no {frame['op']}",
                remedy="hm model configure --backend llama.cpp",
            )
        text = frame.get("prompt")
        if text is None:
            asked = {"messages": frame["messages"], "chat_template_kwargs": frame.get("template_args") or {}}
            asked |= {"tools": frame["tools"]} if frame.get("tools") else {}
            text = (await self._post("/apply-template", asked))["prompt"]
        body = {
            "content": text,
            "add_special": "prompt" in frame,
            "parse_special": bool(frame.get("parse_special", True)),
        }
        return len((await self._post("/tokenize", body))["tokens"])

    def _asked(self, job: ChatJob) -> dict[str, Any]:
        """Beyond what OpenAI's API has, this server keeps grammars and names probabilities."""
        options = {k: v for k, v in job.options.items() if v not in (None, "")}
        if (count := options.pop("logprobs", None)) is not None:
            options |= {"logprobs": True, "top_logprobs": count}
        return {**options, **({"chat_template_kwargs": job.template_args} if job.template_args else {})}

    # -- the process

    async def _loaded(self) -> None:
        try:
            async with asyncio.timeout(LOAD_S):
                while not await self._healthy():
                    if self._process.returncode is not None:
                        await self._watching
                        raise LoadFailed(
                            f"{BACKEND} {how_it_ended(self._process.returncode)} while it loaded {self.spec.name}"
                            f"{last_words(self.log)}",
                            remedy="check the model's files and settings, or use the engine llama.cpp",
                        )
                    await asyncio.sleep(POLL_S)
                await self._learn()
        except TimeoutError:
            raise LoadFailed(
                f"{BACKEND} did not load {self.spec.name} within {LOAD_S:g} s", remedy="try again"
            ) from None

    async def _healthy(self) -> bool:
        """503 while it loads (tools/server/README.md, ``GET /health``)."""
        try:
            async with self._model.client() as client:
                return (await client.get("http://llama-server/health")).status_code == 200
        except httpx2.HTTPError:
            return False

    async def _learn(self) -> None:
        async with self._model.client() as client:
            facts = (await client.get("http://llama-server/props")).json()
        context = facts.get("default_generation_settings", {}).get("n_ctx") or self.spec.context
        template = str(facts.get("chat_template") or "")
        self.ready = {"context": context, "template": template, "facts": {}, "build": facts.get("build_info", "")}

    async def _post(self, path: str, body: dict[str, Any]) -> Any:
        try:
            async with self._model.client() as client:
                answer = await client.post(f"http://llama-server{path}", json=body)
        except httpx2.HTTPError as e:
            raise (self._death() if await self._ended() else EngineFailed(f"{BACKEND} does not answer: {e}")) from e
        if answer.status_code >= 400:
            raise EngineFailed(f"{BACKEND} refuses {path}: {answer.text[:500]}", status=answer.status_code)
        return answer.json()

    async def _watch(self) -> None:
        assert self._process.stderr is not None
        while chunk := await self._process.stderr.read(65536):
            lines = chunk.decode(errors="replace").splitlines()
            self.log.extend(lines)
            self.logged += len(lines)
        await self._process.wait()
        self.alive = False
        if not self._stopping:
            self._on_exit()
            shutil.rmtree(self._folder, ignore_errors=True)

    async def _ended(self) -> bool:
        """A connection breaks a moment before the process is seen to end."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._watching), 1)
        return not self.alive

    def _death(self) -> HarbourError:
        if self._stopping:
            return EngineDied(f"the engine of {self.spec.name} was stopped", remedy="ask again")
        return EngineDied(
            f"the engine of {self.spec.name} {how_it_ended(self._process.returncode)}{last_words(self.log)}",
            remedy="ask again: the model is loaded anew; hm model logs shows what the engine said",
            status=self._process.returncode,
        )


def _must_call(job: ChatJob) -> bool:
    pictures = any(isinstance(m.get("content"), list) for m in job.messages)  # those stay with the server's own ways
    return bool(job.tools) and job.tool_choice not in ("auto", "none") and not pictures


def _lay_out(spec: EngineSpec, folder: Path) -> Path:
    """Names that llama.cpp knows shards by (``llama_split_path``), and the template as a file; returns the first shard."""
    count = len(spec.paths)
    names = [f"model-{i + 1:05d}-of-{count:05d}.gguf" for i in range(count)] if count > 1 else ["model.gguf"]
    for name, path in zip(names, spec.paths, strict=True):
        (folder / name).symlink_to(Path(path).absolute())
    if spec.template:
        (folder / "template.jinja").write_text(spec.template)
    return folder / names[0]


async def _spawn(command: list[str]) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "runner.engine.bound",
            str(os.getpid()),
            *command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment(),
            start_new_session=True,
        )
    except OSError as e:
        raise LoadFailed(f"no process for {BACKEND}: {e}", remedy="see hm doctor") from e
