"""`hm agent chat` on a terminal: prompts, approvals and Ctrl-C, through a pseudo-terminal."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from harbourmaster.core.settings import Settings
from tests.gateway import backend
from tests.gateway.harness import World, locked, serving
from tests.runner.conftest import Server

NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}
TOOLS = [backend.tool("counter", inputSchema=NOTHING), backend.tool("hang", inputSchema=NOTHING)]


@dataclass
class Terminal:
    process: subprocess.Popen[bytes]
    master: int
    seen: str = field(default="")

    def until(self, text: str) -> str:
        """What came up to and with ``text``."""
        deadline = time.monotonic() + 60
        while text not in self.seen and time.monotonic() < deadline:
            if select.select([self.master], [], [], 0.2)[0]:
                self.seen += os.read(self.master, 65536).decode(errors="replace")
        assert text in self.seen, self.seen[-2000:]
        found, _, self.seen = self.seen.partition(text)
        return found + text

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())


@pytest.fixture
async def gateway(settings: Settings) -> AsyncIterator[tuple[World, dict[str, str]]]:
    listing = backend.listing("alpha", tools=TOOLS)
    run = {"command": [json.dumps({"tools": TOOLS})]}
    world = World({"alpha": locked("alpha", listing, run=run)})
    async with serving(settings, world) as (_, http):
        yield world, {"HM_GATEWAY_URL": http.url, "HM_GATEWAY_TOKEN": http.token, "HM_HOME": str(settings.home)}


def start(environment: dict[str, str], *words: str) -> Terminal:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "harbourmaster", "agent", *words],
        stdin=slave, stdout=slave, stderr=slave, env={**os.environ, **environment, "TERM": "dumb"},
        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # Ctrl-C comes from it
    )  # fmt: skip
    os.close(slave)
    return Terminal(process, master)


@pytest.mark.slow
async def test_a_person_is_asked_and_ctrl_c_ends_the_turn_and_not_the_conversation(
    gateway: tuple[World, dict[str, str]], server: Server
) -> None:
    world, environment = gateway
    environment["HM_MODEL_URL"] = server.url

    def talk() -> int:
        terminal = start(
            environment,
            "run",
            "Count.",
            "--tool",
            "counter",
            "--tool-choice",
            "required",
            "--rounds",
            "2",
            "--tokens",
            "60",
        )
        try:
            assert "counter" in terminal.until("[a]lways this tool: ")
            terminal.type("y\n")
            terminal.until("<- counter")
            terminal.until("1 call")
            terminal.process.wait(30)
        finally:
            terminal.process.kill()
            os.close(terminal.master)
        chat = start(environment, "chat", "--tool", "counter", "--tokens", "20000")
        try:
            chat.until("> ")
            chat.type("Write a very long story about a harbour, then another, and never stop.\n")
            chat.until("harbour, then")  # the echo of the line
            chat.until("\n")
            chat.until(" ")  # the first words
            chat.type("\x03")
            chat.until("interrupted")
            chat.until("> ")
            chat.type("/bye\n")
            return chat.process.wait(30)
        finally:
            chat.process.kill()
            os.close(chat.master)

    assert await asyncio.to_thread(talk) == 0
    assert [c["tool"] for c in world.calls()] == ["counter"]
