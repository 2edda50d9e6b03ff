from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.gateway import Gateway
from harbourmaster.core.settings import Settings
from tests.gateway.harness import Http, World, locked, serving


@pytest.fixture
def world() -> World:
    return World({"alpha": locked("alpha")})


@pytest.fixture
async def served(settings: Settings, world: World) -> AsyncIterator[tuple[Gateway, Http]]:
    async with serving(settings, world) as pair:
        yield pair


@pytest.fixture
def http(served: tuple[Gateway, Http]) -> Http:
    return served[1]


@pytest.fixture
def gateway(served: tuple[Gateway, Http]) -> Gateway:
    return served[0]
