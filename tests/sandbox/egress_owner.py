"""Starts a sandbox behind a relay, prints the relay's ID, then waits to be killed.  Argument: home."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from harbourmaster.core.settings import Settings
from sandbox.engine import Engine
from sandbox.profile import Profile
from tests.sandbox.egress_world import World


async def main(home: Path) -> None:
    world = World(Engine.connect(Settings.load(home=home)), Profile.load(), home)
    box = await world.box("db.test:5432")
    print(box.relay_id, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
