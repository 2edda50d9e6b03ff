"""The main job as a person types it: up, call, status, a crash, up again, down.  Real engine, real server."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from gateway.lock import read_lock
from harbourmaster.core import audit
from harbourmaster.core.settings import Settings
from harbourmaster.up.state import read_state
from registry.oci.layout import OciLayout
from sandbox.engine import Engine
from sandbox.reaper import ALL, list_sandboxes, reap
from tests.fixtures.lent import lend, named_home

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(900)]

HM = [sys.executable, "-m", "harbourmaster"]


@dataclass(frozen=True)
class Person:
    """Types commands with an HM_HOME and ports of their own."""

    home: Path
    port: int
    console_port: int
    runner_port: int

    def types(self, *words: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        ports = {"GATEWAY": self.port, "CONSOLE": self.console_port, "RUNNER": self.runner_port}
        environment = {**os.environ, "HM_HOME": str(self.home)} | {f"HM_{k}_PORT": str(v) for k, v in ports.items()}
        done = subprocess.run(
            [*HM, *words], env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=600
        )
        assert not ok or done.returncode == 0, done.stderr
        return done

    @property
    def settings(self) -> Settings:
        return Settings.load(home=self.home, gateway_port=self.port)


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """Starts from what ``HM_TEST_HOME`` has built, where it is given; the copy is this test's own."""
    home = tmp_path_factory.mktemp("main") / "harbour"
    if named := named_home():
        lend(named, home, models=True)
    with socket.socket() as a, socket.socket() as b, socket.socket() as c:
        for s in (a, b, c):
            s.bind(("127.0.0.1", 0))
        person = Person(home, *(s.getsockname()[1] for s in (a, b, c)))
    yield person
    person.types("down")


@pytest.fixture(scope="module")
def engine(person: Person) -> Iterator[Engine]:
    engine = Engine.connect(person.settings)
    yield engine
    reap(engine, owner=ALL)
    engine.close()


def sandboxes(engine: Engine) -> set[str]:
    return {c["Id"] for c in list_sandboxes(engine)}


def test_up_then_a_call_tells_the_time_in_tokyo_and_everything_is_on_record(person: Person, engine: Engine) -> None:
    up = person.types("up", "--detach", "--servers", "time")
    assert f"http://127.0.0.1:{person.port}/mcp" in up.stderr
    assert '"timezone": "UTC"' in up.stderr  # the one real call that up shows

    answer = json.loads(person.types("call", "time.get_current_time", "timezone=Asia/Tokyo").stdout)
    assert answer["timezone"] == "Asia/Tokyo"
    assert answer["datetime"].endswith("+09:00")

    report = json.loads(person.types("status", "--json").stdout)
    assert (report["running"], report["healthy"], report["servers"]["enabled"]) == (True, True, 1)
    assert set(report["processes"]) >= {"gateway", "console", "runner"}
    assert report["addresses"]["runner"] == f"127.0.0.1:{person.runner_port}"
    assert sandboxes(engine), "the one that answered, and perhaps spares"

    kinds = [(r["kind"], r.get("verdict") or r.get("outcome")) for r in audit.tail(person.settings.audit_dir, 100)]
    assert ("admission", "admitted") in kinds
    assert ("call", "ok") in kinds
    person.types("audit", "verify")


def test_a_second_up_builds_nothing_and_says_that_it_runs(person: Person) -> None:
    before = read_state(person.settings.run_dir)
    again = person.types("up", "--detach", "--servers", "time")
    assert "built now" not in again.stderr
    assert "1 by a verdict that still stands" in again.stderr
    assert read_state(person.settings.run_dir) == before


def test_a_model_answers_after_up_with_nothing_else_typed(person: Person) -> None:
    answer = person.types("model", "run", "ai/smollm2", "What is a container?", "--max-tokens", "24")
    assert len(answer.stdout.split()) > 5
    runner = f"http://127.0.0.1:{person.runner_port}"
    [model] = [m for m in httpx2.get(f"{runner}/engines/ps").json() if "smollm2" in m["model_name"]]
    assert model["memory"] > 50e6  # it was the runner that answered, not the command itself


def test_after_kill_9_of_everything_the_next_up_leaves_no_sandbox_behind(person: Person, engine: Engine) -> None:
    person.types("call", "time.get_current_time", "timezone=UTC")
    state = read_state(person.settings.run_dir)
    orphans = sandboxes(engine)
    assert state is not None
    assert orphans
    os.kill(state.supervisor.pid, signal.SIGSTOP)  # or it would end the gateway in order when that one dies first
    os.kill(state.processes["gateway"].pid, signal.SIGKILL)
    os.kill(state.supervisor.pid, signal.SIGKILL)

    person.types("up", "--detach", "--servers", "time")
    assert not orphans & sandboxes(engine)
    person.types("call", "time.get_current_time", "timezone=UTC")


def test_a_byte_flipped_in_a_layer_is_refused_before_any_container(person: Person, engine: Engine) -> None:
    person.types("down")
    layout = OciLayout(person.settings.oci_dir)
    image = read_lock(person.settings.lock_file)["time"].image
    layer = layout.blob_path(layout.read_manifest(image).layers[-1].digest)
    with layer.open("r+b") as f:
        f.seek(layer.stat().st_size // 2)
        byte = f.read(1)
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([byte[0] ^ 1]))
    try:
        refused = person.types("call", "time.get_current_time", "timezone=UTC", ok=False)
        assert refused.returncode == 1
        assert "digest.mismatch" in refused.stderr
        assert sandboxes(engine) == set()
        last = [r for r in audit.tail(person.settings.audit_dir, 20) if r["kind"] == "admission"][-1]
        assert (last["verdict"], last["code"]) == ("refused", "digest.mismatch")
    finally:
        with layer.open("r+b") as f:
            f.seek(layer.stat().st_size // 2)
            f.write(byte)


def test_down_leaves_neither_process_nor_sandbox(person: Person, engine: Engine) -> None:
    person.types("up", "--detach", "--servers", "time")
    person.types("down")
    assert sandboxes(engine) == set()
    assert read_state(person.settings.run_dir) is None
    status = person.types("status", "--json", ok=False)
    assert status.returncode == 1
    assert json.loads(status.stdout)["running"] is False
