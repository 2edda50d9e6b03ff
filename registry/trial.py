"""``hm registry test``: the calls that an entry promises, made against its image in a sandbox without a network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harbourmaster.core.redaction import IN_USE
from harbourmaster.core.secrets import Delivery, SecretId, SecretStore
from harbourmaster.core.secrets.delivery import delivery_of
from registry.errors import WordsRefused
from registry.listing import collect, sandbox_spec
from registry.programs import Part, run_program
from registry.schema import Call, Entry
from registry.session import RpcError, Session, open_session
from sandbox.engine import Engine
from sandbox.profile import Profile

MAX_SHOWN = 500  # characters of a server's answer in a report


@dataclass(frozen=True)
class Outcome:
    """``passed``: the answer was as expected.  ``text``: what the server said, cut short."""

    tool: str
    passed: bool
    text: str
    problem: str = ""


def own_secrets(entry: Entry, store: SecretStore) -> Delivery:
    """What a person has set for ``entry``, with placeholders for what is required and not set."""
    ids = {each: SecretId(entry.name, each.name) for each in entry.secrets()}
    own = {each: store.get(secret) for each, secret in ids.items() if store.has(secret)}
    IN_USE.add(own.values())
    return delivery_of(entry.placeholders() | own)


def try_calls(
    engine: Engine,
    entry: Entry,
    image_id: str,
    manifest: str,
    *,
    timeout_s: float,
    secrets: Delivery | None = None,
    parts: Mapping[str, Part] | None = None,
) -> list[Outcome]:
    """Compare the tools with those recorded, if any, and make every call of ``entry.test``, in one session; of tool images
    (``parts``) each in a sandbox of its own.  Raises ``ListingFailed`` when the server ends or hangs."""
    if parts is not None:
        return asyncio.run(_programs(engine, entry, parts, timeout_s, secrets))
    spec = sandbox_spec(entry, image_id, manifest, secrets=secrets)

    async def all_calls() -> list[Outcome]:
        async with open_session(engine, Profile.load(), spec, timeout_s=timeout_s) as session:
            recorded = [_offers(entry, await collect(session))] if entry.tools else []
            return recorded + [await _call(session, call) for call in (entry.test.calls if entry.test else [])]

    return asyncio.run(all_calls())


async def _programs(
    engine: Engine, entry: Entry, parts: Mapping[str, Part], timeout_s: float, secrets: Delivery | None
) -> list[Outcome]:
    outcomes = []
    for call in entry.test.calls if entry.test else []:
        try:
            result = await run_program(
                engine, entry, parts, call.tool, call.arguments, timeout_s=timeout_s, secrets=secrets
            )
            outcomes.append(_judged(call, result))
        except WordsRefused as e:
            problem = judge(call, True, e.message)
            outcomes.append(Outcome(call.tool, not problem, e.message, problem))
    return outcomes


def _judged(call: Call, result: dict[str, Any]) -> Outcome:
    text = text_of(result)
    problem = judge(call, bool(result.get("isError")), text)
    return Outcome(call.tool, not problem, text[:MAX_SHOWN], problem)


def _offers(entry: Entry, listing: dict[str, Any]) -> Outcome:
    """Whether the server offers the tools that the entry recorded, no more and no less."""
    offered = {str(tool.get("name")) for tool in listing.get("tools", []) if isinstance(tool, dict)}
    recorded = {tool.name for tool in entry.tools}
    changed = [f"+ {name}" for name in sorted(offered - recorded)] + [
        f"- {name}" for name in sorted(recorded - offered)
    ]
    problem = f"it offers something else than was recorded: {', '.join(changed)}" if changed else ""
    return Outcome("tools/list", not problem, ", ".join(sorted(offered))[:MAX_SHOWN], problem)


async def _call(session: Session, call: Call) -> Outcome:
    try:
        return _judged(call, await session.request("tools/call", {"name": call.tool, "arguments": call.arguments}))
    except RpcError as e:
        return _judged(call, {"isError": True, "content": [{"type": "text", "text": e.message}]})


def text_of(result: dict[str, Any]) -> str:
    """The texts of a tool's result; structured content when there is no text."""
    texts = [str(item.get("text", "")) for item in result.get("content") or [] if isinstance(item, dict)]
    return "\n".join(t for t in texts if t) or json.dumps(result.get("structuredContent", {}), ensure_ascii=False)


def judge(call: Call, is_error: bool, text: str) -> str:
    """Why the answer is not the expected one; ``""`` when it is."""
    if is_error != call.expect.is_error:
        return f"expected {'an error' if call.expect.is_error else 'a result'}, got {'an error' if is_error else 'a result'}"
    if call.expect.contains is not None and call.expect.contains not in text:
        return f"the answer does not contain {call.expect.contains!r}"
    return ""
