"""Interceptors for tests, named in their configuration by ``tests.gateway.hooks_under_test:NAME``."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

seen: list[dict[str, Any]] = []
threads: list[str] = []


async def watch(question: dict[str, Any]) -> dict[str, Any]:
    seen.append(question)
    return {"action": "pass"}


def refuse_evil(question: dict[str, Any]) -> dict[str, Any]:
    threads.append(threading.current_thread().name)
    if "evil" in str(question.get("params", {}).get("arguments")):
        return {"action": "refuse", "reason": "evil is not allowed here"}
    return {"action": "pass"}


async def rewrite(question: dict[str, Any]) -> dict[str, Any]:
    if question["phase"] == "before":
        return {"action": "replace", "params": {"name": "crash", "arguments": {"text": "rewritten"}}}
    question["result"]["content"].append({"type": "text", "text": "seen"})
    return {"action": "replace", "result": question["result"]}


async def put_secret(question: dict[str, Any]) -> dict[str, Any]:
    return {"action": "replace", "params": {"arguments": {"text": "ghp_" + "0a1B2c3D4e" * 4}}}


async def never(question: dict[str, Any]) -> dict[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError


async def breaks(question: dict[str, Any]) -> dict[str, Any]:
    raise ZeroDivisionError


async def mumbles(question: dict[str, Any]) -> Any:
    return "fine by me"
