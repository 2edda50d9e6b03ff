from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.gateway import Gateway
from harbourmaster.core.settings import Settings
from tests.gateway.harness import Http, World, locked, serving


@pytest.fixture
def settings(home: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Without spare sandboxes, here and in processes that tests start: what runs is what was asked for."""
    monkeypatch.setenv("HM_POOL_SPARES", "0")
    return Settings.load(home=home)


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
