"""``hm model run``: one question, or a conversation.  Asks the running server; without one, loads the model itself."""

from __future__ import annotations

import base64
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harbourmaster.core.settings import Settings
from runner.chat.pictures import picture_part
from runner.client import RunnerClient, own_url
from runner.install import is_installed
from runner.local import LocalChat
from runner.service import Runner
from runner.setup import prepare

Ask = Callable[[list[dict[str, Any]], dict[str, Any]], Iterator[str]]
HELP = "/bye ends, /clear forgets the conversation, /? shows this"


def converse(
    settings: Settings,
    model: str,
    prompt: str | None,
    system: str,
    options: dict[str, Any],
    url: str,
    images: list[Path],
) -> None:
    """``images``: what ``prompt`` is about."""
    opening = [{"role": "system", "content": system}] if system else []
    with _asker(settings, model, url) as ask:
        if prompt is not None:
            _answer(ask, [*opening, {"role": "user", "content": _question(prompt, images)}], options)
        elif not sys.stdin.isatty():
            _answer(ask, [*opening, {"role": "user", "content": sys.stdin.read()}], options)
        else:
            _talk(ask, opening, options, settings.home / "models" / "history")


def _question(prompt: str, images: list[Path]) -> Any:
    files = [base64.b64encode(path.read_bytes()).decode() for path in images]
    return [*map(picture_part, files), {"type": "text", "text": prompt}] if files else prompt


@contextlib.contextmanager
def _asker(settings: Settings, model: str, url: str) -> Iterator[Ask]:
    client = RunnerClient(url or own_url(settings))
    if not url and not is_installed():  # a person who asks a model wants the minutes of compiling, not an error
        prepare(settings, lambda line: print(line, file=sys.stderr))
    if client.is_up():
        yield lambda messages, options: client.chat(model, messages, options)
        return
    with LocalChat(Runner.open(settings), model) as local:
        yield local.chat


def _talk(ask: Ask, opening: list[dict[str, Any]], options: dict[str, Any], history: Path) -> None:
    messages = list(opening)
    sys.stderr.write(f"{HELP}\n")
    with _line_history(history):
        while True:
            try:
                line = input("> ").strip()
            except EOFError:
                sys.stdout.write("\n")
                return
            except KeyboardInterrupt:
                sys.stdout.write("\n")
                continue
            if line == "/bye":
                return
            if line == "/clear":
                messages = list(opening)
            elif line in ("/?", "/help"):
                sys.stderr.write(f"{HELP}\n")
            elif line:
                messages.append({"role": "user", "content": line})
                messages.append({"role": "assistant", "content": _answer(ask, messages, options)})


def _answer(ask: Ask, messages: list[dict[str, Any]], options: dict[str, Any]) -> str:
    """Print the answer as it comes; Ctrl-C ends it (and the work in the engine), not the conversation."""
    text = ""
    with contextlib.closing(ask(messages, options)) as pieces:  # type: ignore[type-var]
        try:
            for piece in pieces:
                text += piece
                sys.stdout.write(_shown(piece))
                sys.stdout.flush()
        except KeyboardInterrupt:
            if not sys.stdin.isatty():
                raise
    sys.stdout.write("\n")
    return text


def _shown(text: str) -> str:
    """A model's output must not drive the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


@contextlib.contextmanager
def _line_history(path: Path) -> Iterator[None]:
    import readline

    with contextlib.suppress(OSError):
        readline.read_history_file(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            readline.set_history_length(1000)
            readline.write_history_file(path)
