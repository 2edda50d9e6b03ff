"""A model runner that says what a test wrote down: the paths of docs/models.md that the console asks, and no model."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = {
    "id": "sha256:" + "a" * 64,
    "tags": ["ai/parrot:latest"],
    "config": {"format": "gguf", "architecture": "llama", "parameters": "1M", "quantization": "Q4_0", "size": "1 MiB"},
}


class Script:
    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.asked: list[dict[str, Any]] = []
        self.answers: list[list[str]] = []
        self.pulled = threading.Event()
        """Set: a pull that was begun may end."""

    def say(self, *pieces: str) -> None:
        """The next answer, in pieces."""
        self.answers.append(list(pieces))


class _Handler(BaseHTTPRequestHandler):
    script: Script

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the terminal."""

    def do_GET(self) -> None:
        entry = {"memory": 1_500_000, "loading": False, "in_use": False}
        bodies = {
            "/engines/status": {"llama.cpp": "Running"},
            "/engines/ps": [{"model_name": name, **entry} for name in self.script.loaded],
            "/models": [MODEL],
        }
        self._json(bodies.get(self.path, {}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])) or b"{}")
        if self.path == "/api/generate":
            self.script.loaded.append(body["model"])
            self._json({})
        elif self.path == "/engines/unload":
            self.script.loaded.clear()
            self._json({"unloaded_runners": 1})
        elif self.path == "/models/create":
            self._pull(body["from"])
        elif self.path == "/v1/chat/completions":
            self.script.asked.append(body)
            self._chat()
        else:
            self.send_error(404)

    def _pull(self, name: str) -> None:
        self._begin("application/json")
        layer = {"id": "sha256:1", "size": 4_000_000, "current": 1_000_000}
        self._line({"type": "progress", "layer": layer})
        self.script.pulled.wait(30)
        if "missing" in name:
            self._line({"type": "error", "message": f"no model is named {name}"})
        else:
            self._line({"type": "success", "message": "Model pulled"})

    def _chat(self) -> None:
        pieces = self.script.answers.pop(0) if self.script.answers else ["Squawk."]
        self._begin("text/event-stream")
        for piece in pieces:
            self._event({"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]})
        usage = {"prompt_tokens": 3, "completion_tokens": len(pieces), "total_tokens": 3 + len(pieces)}
        self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage})
        self.wfile.write(b"data: [DONE]\n\n")

    def _begin(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.end_headers()

    def _line(self, body: Any) -> None:
        self.wfile.write(json.dumps(body).encode() + b"\n")
        self.wfile.flush()

    def _event(self, body: dict[str, Any]) -> None:
        self.wfile.write(
            b"data: " + json.dumps({"id": "x", "object": "chat.completion.chunk", **body}).encode() + b"\n\n"
        )
        self.wfile.flush()

    def _json(self, body: Any) -> None:
        raw = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


@contextmanager
def scripted_runner(port: int) -> Iterator[Script]:
    script = Script()
    handler = type("Handler", (_Handler,), {"script": script})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield script
    finally:
        script.pulled.set()
        server.shutdown()
        thread.join(10)
        server.server_close()
