"""500 clients at once, over real connections, of real sandboxes, of which only so many may run: nobody gets another's
answer, nobody is left without one, and nothing is left of it all.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from harbourmaster.core.settings import Settings
from sandbox.engine import Engine
from sandbox.owner import LABEL_HOME, LABEL_SANDBOX
from sandbox.reaper import ALL, reap
from tests.fixtures.images import build_keeper_image, remove_loaded
from tests.gateway.chaos_clients import PATIENCE_S, Client, Ending, HandshakeClient, client, crowd
from tests.gateway.chaos_program import all_gone, eventually, program

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(int(2 * PATIENCE_S))]

CLIENTS = 500
OWN = 200  # of them need a sandbox each; the others share those of a server without state
CAP = 16  # sandboxes at one time
QUEUE = 100  # calls that may wait for one: fewer than want to
RUNS: dict[str, dict[str, Any]] = {"own": {}, "shared": {"stateless": True}}
LIMITS = {
    "max_sandboxes": CAP,
    "max_sandboxes_per_server": CAP,
    "sandbox_queue": QUEUE,
    "sandbox_wait_s": PATIENCE_S,
    "call_timeout_s": PATIENCE_S,
    "start_timeout_s": PATIENCE_S,
    "sandbox_idle_s": 2.0,  # what nobody uses any more is soon gone
    "pool_spares": 2,
}
FULL = "gateway.too_many_sandboxes"
EVICTED = "sandbox.evicted"


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    engine = Engine.connect(settings)
    yield engine
    reap(engine, owner=ALL)
    remove_loaded(engine, "hm-test-keeper")
    engine.close()


class Watch:
    """How many sandboxes there were at one time: from the engine's own events, so that none is missed between two looks."""

    def __init__(self, engine: Engine) -> None:
        labels = [f"{LABEL_SANDBOX}=1", f"{LABEL_HOME}={engine.home_label}"]
        self._events = engine.client.events(decode=True, filters={"type": "container", "label": labels})
        self._there: set[str] = set()
        self.most = self.made = 0
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        for event in self._events:
            if event["Action"] == "create":
                self.made += 1
                self._there.add(event["Actor"]["ID"])
                self.most = max(self.most, len(self._there))
            elif event["Action"] == "destroy":
                self._there.discard(event["Actor"]["ID"])

    def close(self) -> None:
        self._events.close()
        self._thread.join()


@contextlib.contextmanager
def watching(engine: Engine) -> Iterator[Watch]:
    watch = Watch(engine)
    try:
        yield watch
    finally:
        watch.close()


async def test_500_clients_at_once_get_their_own_answers_from_a_few_sandboxes_and_leave_nothing(engine: Engine) -> None:
    image = await asyncio.to_thread(build_keeper_image, engine)
    endings: Counter[str] = Counter()
    async with program(image, RUNS, **LIMITS) as gateway:
        async with crowd(gateway.http, mixed(20)) as few:  # fills the gateway's connections to the engine
            await asyncio.gather(*(visit(each, Counter()) for each in few))
        await eventually(lambda: all_gone(engine))
        before = await gateway.held()
        with watching(engine) as watch:
            async with crowd(gateway.http, mixed(CLIENTS)) as many:
                assert gateway.files >= before.files + CLIENTS, "all are connected"
                sessions = [s for s in (await gateway.status())["sessions"] if s["era"] == "handshake"]
                assert len(sessions) == CLIENTS // 2
                await asyncio.gather(*(visit(each, endings) for each in many))
                pool = (await gateway.status())["pool"]
            await eventually(lambda: all_gone(engine))
        assert set(endings) <= {"ok", "alike", FULL, EVICTED}
        assert endings["alike"] > 0
        assert watch.most <= CAP
        assert watch.made >= OWN
        assert pool["counters"]["queued"] >= QUEUE
        assert pool["counters"]["refused"] > 0
        assert endings[FULL] > 0
        await gateway.holds_no_more_than(before)
        async with client(gateway.http, "own", 1) as last:
            assert await last.call("keep", text="still here") == Ending("still here")
    assert await all_gone(engine)


def mixed(count: int) -> list[str]:
    """Which server each of ``count`` clients calls."""
    own = count * OWN // CLIENTS
    return ["own"] * own + ["shared"] * (count - own)


async def visit(one: Client, endings: Counter[str]) -> None:
    """Two calls with words that are nobody else's.  Who has a sandbox of its own makes them at the same time, and whichever is
    answered first, its words are the answer to both.
    """
    words = [f"{one.number}-first", f"{one.number}-second"]
    if one.server == "shared":
        for each in words:
            assert await insist(one, endings, "echo", each) == Ending(each)
        return
    async with one.twin() as twin:
        both = await asyncio.gather(insist(one, endings, "keep", words[0]), insist(twin, endings, "keep", words[1]))
    told = {ending.text for ending in both if not ending.code}
    assert told
    assert told <= set(words), "a sandbox that was another's"
    endings["alike"] += both[0] == both[1]
    if isinstance(one, HandshakeClient):  # was promised that its sandbox is kept, or that it hears otherwise
        assert len(told) == 1
        assert {ending.code for ending in both} <= {"", EVICTED}


async def insist(one: Client, endings: Counter[str], tool: str, words: str) -> Ending:
    """Call until there is room; what was refused says so."""
    while (ending := await one.call(tool, text=words)).code == FULL:
        endings[FULL] += 1
        await asyncio.sleep(1)
    endings[ending.code or "ok"] += 1
    return ending
