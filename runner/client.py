"""The command line's way to a running server; without one, a runner of its own for the time of a command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2

from harbourmaster.core.running import runner_url
from harbourmaster.core.settings import Settings
from runner.errors import EngineFailed, RunnerDown

TIMEOUT_S = 600.0  # a load and a long answer
CONNECT_S = 2.0


def own_url(settings: Settings) -> str:
    """Where the runner of `hm up` listens."""
    return runner_url(settings)


def proxied(url: str) -> bool:
    """Whether the environment's proxy settings are for ``url``: not for this machine itself."""
    return urlsplit(url).hostname not in ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class RunnerClient:
    url: str

    @property
    def _proxied(self) -> bool:
        """A proxy of the environment is for other machines: it cannot reach what listens on this one's loopback."""
        return proxied(self.url)

    def is_up(self) -> bool:
        try:
            return (
                httpx2.get(f"{self.url}/engines/status", timeout=CONNECT_S, trust_env=self._proxied).status_code == 200
            )
        except httpx2.TransportError:
            return False

    def get(self, path: str) -> Any:
        return self._request("GET", path)

    def lines(self, path: str) -> Iterator[str]:
        """Of a text, as they come."""
        try:
            with httpx2.stream(
                "GET", self.url + path, timeout=httpx2.Timeout(None, connect=CONNECT_S), trust_env=self._proxied
            ) as answer:
                if answer.status_code >= 400:
                    raise EngineFailed(_message(answer.read().decode(errors="replace")), status=answer.status_code)
                yield from answer.iter_lines()
        except httpx2.TransportError as e:
            raise self._down() from e

    def post(self, path: str, body: Any) -> Any:
        return self._request("POST", path, body)

    def _request(self, method: str, path: str, body: Any = None) -> Any:
        try:
            answer = httpx2.request(method, self.url + path, json=body, timeout=TIMEOUT_S, trust_env=self._proxied)
        except httpx2.TransportError as e:
            raise self._down() from e
        if answer.status_code >= 400:
            raise EngineFailed(_message(answer.text), status=answer.status_code)
        return answer.json() if answer.content else None

    def chat(self, model: str, messages: list[dict[str, Any]], options: dict[str, Any]) -> Iterator[str]:
        """Pieces of the answer as they come."""
        body = {"model": model, "messages": messages, "stream": True, **options}
        try:
            with httpx2.stream(
                "POST", f"{self.url}/v1/chat/completions", json=body, timeout=TIMEOUT_S, trust_env=self._proxied
            ) as answer:
                if answer.status_code >= 400:
                    raise EngineFailed(_message(answer.read().decode(errors="replace")), status=answer.status_code)
                for line in answer.iter_lines():
                    yield from _pieces(line)
        except httpx2.TransportError as e:
            raise self._down() from e

    def _down(self) -> RunnerDown:
        return RunnerDown(
            f"no model runner answers at {self.url}", remedy="start one: hm model serve (or hm up), or give --url"
        )


def _pieces(line: str) -> Iterator[str]:
    if not line.startswith("data: ") or line == "data: [DONE]":
        return
    body = json.loads(line[6:])
    if "error" in body:
        raise EngineFailed(str(body["error"].get("message", "the runner failed")))
    for choice in body.get("choices", []):
        if text := choice.get("delta", {}).get("content"):
            yield text


def _message(text: str) -> str:
    try:
        error = json.loads(text)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        return text.strip()[:500] or "the runner refused"
