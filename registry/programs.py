"""One tool image run once, without a network: for the calls that an entry promises (``hm registry test``)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from harbourmaster.core.secrets.delivery import Delivery
from registry.build.errors import EntryNotFound, ListingFailed
from registry.entry import Entry
from registry.listing import sandbox_spec
from registry.oneshot import Output, words
from registry.toolset import containers, part_name
from sandbox.engine import Engine
from sandbox.profile import Profile
from sandbox.sandbox import Exit, Sandbox

Part = tuple[str, str]  # the manifest digest of an image, and the engine's ID of it


async def run_program(
    engine: Engine,
    entry: Entry,
    parts: Mapping[str, Part],
    tool: str,
    arguments: dict[str, Any],
    *,
    timeout_s: float,
    secrets: Delivery | None = None,
) -> dict[str, Any]:
    """A ``CallToolResult``.  Raises ``EntryNotFound``, ``WordsRefused``, ``ListingFailed`` when it does not end."""
    container = containers(entry).get(tool)
    if container is None:
        raise EntryNotFound(f"{entry.name} has no tool {tool}", remedy="name one of those it lists", name=tool)
    manifest, image_id = parts[part_name(entry.name, container.image)]
    defaults = {name: spec.default for name, spec in entry.config.parameters.items()}
    spec = sandbox_spec(entry, image_id, manifest, secrets=secrets)
    command = tuple(words(container.command, arguments, defaults))
    spec = replace(spec, command=command, user=container.user or spec.user, one_shot=True)
    return await _run(engine, spec, tool, timeout_s)


async def _run(engine: Engine, spec: Any, tool: str, timeout_s: float) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Exit] = loop.create_future()
    over = asyncio.Event()
    output = Output(over.set)

    def on_exit(end: Exit) -> None:
        ended.set_result(end)
        over.set()

    box = await Sandbox.start(engine, Profile.load(), spec, on_line=output.line, on_exit=on_exit)
    try:
        await asyncio.wait_for(over.wait(), timeout_s)
    except TimeoutError:
        raise ListingFailed(f"{tool} did not end within {timeout_s:g} s", remedy="see its stderr") from None
    finally:
        await box.stop(grace_s=0.2)
    end = await ended
    return output.result(end.status, end.reason, end.stderr)
