"""Starts sandboxes and says so, then waits to be killed.  Arguments: home, image ID, how many."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from harbourmaster.core.settings import Settings
from sandbox.engine import Engine
from sandbox.profile import Profile
from sandbox.sandbox import Sandbox
from sandbox.spec import SandboxSpec


async def main(home: str, image: str, count: str) -> None:
    engine, profile = Engine.connect(Settings.load(home=Path(home))), Profile.load()
    spec = SandboxSpec(server="echo", image_id=image)
    boxes = [
        await Sandbox.start(engine, profile, spec, on_line=lambda _: None, on_exit=lambda _: None)
        for _ in range(int(count))
    ]
    sys.stdout.write(f"{len(boxes)}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
