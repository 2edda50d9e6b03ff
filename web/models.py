"""Local models, over the runner's own HTTP interface; pulls go on in the background and are remembered until seen."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx2

from harbourmaster.core.errors import HarbourError
from runner.client import RunnerClient
from runner.errors import EngineFailed, RunnerDown
from web.errors import FormInvalid

PULL_S = 60.0  # between two lines of progress; a registry that is silent for longer is gone
KEPT = 8  # finished pulls that are still shown
MAX_HISTORY = 64 << 10  # characters of a conversation that a page carries
MAX_ANSWER = 1024  # tokens


@dataclass
class Pull:
    """``layers``: digest -> (bytes here, bytes in all)."""

    model: str
    began: float
    layers: dict[str, tuple[int, int]] = field(default_factory=dict)
    state: str = "pulling"  # or done, failed
    message: str = ""

    @property
    def here(self) -> int:
        return sum(current for current, _ in self.layers.values())

    @property
    def whole(self) -> int:
        return sum(total for _, total in self.layers.values())


class Models:
    """Blocking; thread safe."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = RunnerClient(url)
        self._pulls: list[Pull] = []
        self._lock = threading.Lock()

    def overview(self) -> dict[str, Any]:
        """``{models: [{name, id, size, format, loaded}], memory}``.  Raises ``RunnerDown``, ``EngineFailed``."""
        if not self._client.is_up():
            raise RunnerDown(f"no model runner answers at {self.url}", remedy="start one: hm up, or hm model serve")
        loaded = {entry["model_name"]: entry for entry in self._client.get("/engines/ps")}
        rows = []
        for model in self._client.get("/models"):
            names = list(model.get("tags") or [model["id"]])
            running = next((loaded[n] for n in names if n in loaded), None)
            rows.append({"name": names[0], "id": model["id"], "config": model.get("config") or {}, "loaded": running})
        return {"models": rows, "memory": sum(entry.get("memory", 0) for entry in loaded.values())}

    def pull(self, name: str) -> Pull:
        """Begin in the background; of one model one pull at a time."""
        name = name.strip()
        if not name or not name.isprintable() or " " in name:
            raise FormInvalid("that is no model's name", remedy="as in: ai/smollm2, or hf.co/owner/name")
        with self._lock:
            for known in self._pulls:
                if known.model == name and known.state == "pulling":
                    return known
            found = Pull(name, time.time())
            self._pulls = [found, *(p for p in self._pulls if p.model != name)][:KEPT]
        threading.Thread(target=self._pull, args=(found,), name="pull", daemon=True).start()
        return found

    def pulls(self) -> list[Pull]:
        return list(self._pulls)

    def load(self, name: str) -> None:
        self._client.post("/api/generate", {"model": name, "prompt": ""})

    def unload(self, name: str) -> None:
        self._client.post("/engines/unload", {"models": [name]})

    def remove(self, name: str) -> None:
        answer = httpx2.delete(f"{self.url}/models/{quote(name, safe='/:.@')}", timeout=PULL_S)
        if answer.status_code >= 400:
            raise EngineFailed(_words(answer.text), status=answer.status_code)

    def chat(self, model: str, messages: list[dict[str, str]]) -> str:
        """The whole answer."""
        return "".join(self._client.chat(model, list(messages), {"max_tokens": MAX_ANSWER}))

    def _pull(self, pull: Pull) -> None:
        try:
            timeout = httpx2.Timeout(PULL_S, connect=5.0)
            with httpx2.stream(
                "POST", f"{self.url}/models/create", json={"from": pull.model}, timeout=timeout
            ) as answer:
                if answer.status_code >= 400:
                    raise EngineFailed(_words(answer.read().decode(errors="replace")))
                for line in answer.iter_lines():
                    _note(pull, line)
            if pull.state == "pulling":
                pull.state, pull.message = "failed", "the runner broke off"
        except (httpx2.HTTPError, HarbourError, ValueError) as e:
            pull.state, pull.message = "failed", e.message if isinstance(e, HarbourError) else str(e)


def _note(pull: Pull, line: str) -> None:
    """One line of ``POST /models/create`` (Docker Model Runner): progress, success or error."""
    if not line.strip():
        return
    body = json.loads(line)
    if body.get("type") == "progress":
        layer = body.get("layer") or {}
        pull.layers[str(layer.get("id"))] = int(layer.get("current", 0)), int(layer.get("size", 0))
    elif body.get("type") == "success":
        pull.state, pull.message = "done", str(body.get("message", ""))
    elif body.get("type") == "error":
        raise EngineFailed(str(body.get("message", "the runner refused")))


def _words(text: str) -> str:
    try:
        error = json.loads(text)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        return text.strip()[:500] or "the runner refused"


def parse_history(text: str) -> list[dict[str, str]]:
    """The conversation that a page carried, as messages.  Raises ``FormInvalid``."""
    try:
        if len(text) > MAX_HISTORY:
            raise ValueError("too long")
        return [{"role": _role(m["role"]), "content": str(m["content"])} for m in json.loads(text or "[]")]
    except (ValueError, TypeError, KeyError) as e:
        raise FormInvalid("the conversation cannot be read, or is too long", remedy="begin a new one") from e


def _role(word: Any) -> str:
    if word not in ("user", "assistant"):
        raise ValueError(word)
    return str(word)
