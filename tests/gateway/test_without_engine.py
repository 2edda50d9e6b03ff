"""A gateway without a container engine: it starts, says so, serves what runs elsewhere, and explains the rest."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import requests

from gateway.lock import write_lock
from gateway.serve import bind, http_server
from harbourmaster import containers
from harbourmaster.compose import composed_gateway
from harbourmaster.containers import Containers, Parts
from harbourmaster.core.audit import tail
from harbourmaster.core.settings import Settings
from sandbox.engine import Engine
from sandbox.errors import EngineFailed, EngineMissing, EnginePermission
from tests.gateway.elsewhere import Elsewhere, Reply, Request, greeting, remote, result
from tests.gateway.harness import Http, locked, tool_call


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"engine_url": f"unix://{tmp_path}/no-engine.sock"})


async def echo(request: Request, reply: Reply) -> None:
    await reply.send(200, result(request, content=[{"type": "text", "text": "from far"}]))


@contextlib.asynccontextmanager
async def composed(settings: Settings) -> AsyncIterator[Http]:
    async with composed_gateway(settings) as gateway:
        sock = bind("127.0.0.1", 0)
        port, token = sock.getsockname()[1], gateway.tokens.default()
        async with http_server(gateway, settings, sock):
            yield Http(port, token)


async def test_remote_servers_are_served_and_a_call_of_one_in_a_container_says_what_to_do(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    async with Elsewhere(greeting(echo)).running() as far:
        write_lock(settings.lock_file, {"far": remote(far.url), "alpha": locked("alpha")})
        with caplog.at_level(logging.WARNING):
            async with composed(settings) as http:
                session = await http.initialize()
                reply = await http.call(session, "tools/call", tool_call("far__echo"))
                assert reply["result"]["content"][0]["text"] == "from far"
                listed = (await http.call(session, "tools/list"))["result"]["tools"]
                assert "counter" in {tool["name"] for tool in listed}
                reply = await http.call(session, "tools/call", tool_call("counter"))
                modern = (await http.modern("tools/call", tool_call("counter"))).json
    for error in (reply["error"], modern["error"]):
        assert error["data"]["code"] == "engine.missing"
        assert error["message"] == "alpha runs in a container, and no container engine answers here"
        assert "the gateway finds it by itself" in error["data"]["remedy"]
        assert str(settings.engine_url) not in str(error)
    assert "1 server in containers cannot be called" in caplog.text
    assert str(settings.engine_url) in caplog.text
    records = tail(settings.audit_dir, 50)
    assert [(r["event"], r.get("code")) for r in records if r["kind"] == "gateway"] == [
        ("engine_missing", "engine.missing"),
        ("start", None),
        ("stop", None),
    ]
    outcomes = {r["server"]: (r["outcome"], r.get("code")) for r in records if r["kind"] == "call"}
    assert outcomes == {"far": ("ok", None), "alpha": ("failed", "engine.missing")}


async def test_code_mode_and_relaxed_servers_say_the_same(settings: Settings) -> None:
    from tests.gateway.test_dynamic_http import call, code
    from tests.gateway.test_profiles_http import write

    write_lock(settings.lock_file, {"alpha": locked("alpha")})
    write(settings, "talk", {"dynamic": True, "servers": {"alpha": {"limits": {"memory_mb": 900}}}})
    async with composed(settings) as http:
        at = http.at("talk")
        session = await at.initialize()
        assert code(await call(at, session, "mcp-code", script="result(1)")) == "engine.missing"
        reply = await at.call(session, "tools/call", tool_call("mcp-exec", {"name": "counter"}))
        assert reply["error"]["data"]["code"] == "engine.missing"


# -- looking for it


class Docks:
    """An engine that is there or not."""

    def __init__(self) -> None:
        self.error: Exception | None = EngineMissing("none at unix:///run/x.sock")
        self.asked = self.closed = 0
        self.records: list[dict[str, Any]] = []

    def connect(self) -> Engine:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return cast(Engine, self)

    def close(self) -> None:
        self.closed += 1

    def fit(self, engine: Engine) -> Parts:
        return Parts(engine, lambda name, relaxed: (name, relaxed), cast(Any, None), cast(Any, None))

    def containers(self) -> Containers:
        return Containers(self.connect, self.fit, self.records.append)

    @property
    def events(self) -> list[str]:
        return [record["event"] for record in self.records]


def test_an_engine_that_appears_is_found_at_the_next_call_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "AGAIN_S", 0.0)
    docks = Docks()
    found = docks.containers()
    assert isinstance(found.begin(), EngineMissing)
    with pytest.raises(EngineMissing, match="alpha runs in a container"):
        found.admit("alpha")
    docks.error = None
    assert found.admit("alpha", ("memory_mb",)) == ("alpha", ("memory_mb",))
    assert found.admit("alpha") == ("alpha", ())
    assert docks.asked == 3
    assert docks.events == ["engine_missing", "engine_found"]


def test_a_busy_client_does_not_have_the_engine_looked_for_at_every_call() -> None:
    docks = Docks()
    found = docks.containers()
    found.begin()
    for _ in range(100):
        with pytest.raises(EngineMissing):
            found.admit("alpha")
    assert docks.asked == 1


def test_an_engine_that_does_not_let_us_in_is_said_to_do_so() -> None:
    docks = Docks()
    docks.error = EnginePermission("the engine at unix:///run/x.sock does not let this user in")
    found = docks.containers()
    assert isinstance(found.begin(), EnginePermission)
    with pytest.raises(EnginePermission, match="no container engine here lets the gateway in") as refused:
        found.admit("alpha")
    assert "/run/x.sock" not in refused.value.message


def test_an_engine_that_answers_and_then_fails_is_let_go_and_looked_for_again() -> None:
    docks = Docks()
    docks.error = None

    def broken(engine: Engine) -> Parts:
        raise EngineFailed("the engine could not list sandboxes")

    fits = iter((broken, docks.fit))
    found = Containers(docks.connect, lambda engine: next(fits)(engine), docks.records.append)
    assert isinstance(found.begin(), EngineFailed)
    assert docks.closed == 1
    assert found.admit("alpha") == ("alpha", ())


def test_calls_do_not_wait_behind_one_that_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "TURN_S", 0.05)
    docks, looking, go_on = Docks(), threading.Event(), threading.Event()

    def slowly() -> Engine:
        looking.set()
        go_on.wait(60)
        return cast(Engine, docks)

    found = Containers(slowly, docks.fit, docks.records.append)
    first = threading.Thread(target=found.begin)
    first.start()
    looking.wait(60)
    with pytest.raises(EngineMissing, match="runs in a container"):
        found.admit("alpha")
    go_on.set()
    first.join(60)
    assert found.admit("alpha") == ("alpha", ())


@pytest.mark.parametrize(
    ("cause", "said"), [(requests.ConnectionError("x.sock"), "any more"), (ValueError("x"), "list")]
)
def test_an_engine_that_went_away_is_said_to_have_gone_and_other_failures_are_its_own(
    cause: Exception, said: str
) -> None:
    docks = Docks()
    docks.error = None

    def gone(name: str, relaxed: tuple[str, ...]) -> Any:
        raise EngineFailed("the engine could not list images: x.sock") from cause

    found = Containers(docks.connect, lambda engine: replace(docks.fit(engine), admit=gone), docks.records.append)
    with pytest.raises(EngineFailed, match=said) as refused:
        found.admit("alpha")
    assert ("x.sock" in refused.value.message) is (said == "list")
