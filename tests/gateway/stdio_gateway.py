"""A gateway on stdio over subprocess servers, as a program: what a client starts."""

from __future__ import annotations

import sys

import uvloop

from gateway.serve import run_stdio
from harbourmaster.core.settings import Settings
from tests.gateway.harness import World, locked, running


async def main() -> None:
    async with running(Settings.load(), World({"alpha": locked("alpha"), "beta": locked("beta")})) as gateway:
        await run_stdio(gateway, *sys.argv[1:2])


if __name__ == "__main__":
    uvloop.run(main())
