"""The escape set with one setting of the profile taken away at a time: it must notice each."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox import containers
from sandbox.engine import Engine
from sandbox.profile import Profile, container_config
from sandbox.spec import SandboxSpec
from tests.escape.captive import canaries, captured, changed
from tests.escape.cases import case_of
from tests.escape.checks import CHECKS, check_of
from tests.escape.conftest import Note
from tests.escape.harbour import LIMITS
from tests.escape.host import listening
from tests.escape.mutations import DECLARED, LIVED, Declared, Lived, bridge, host

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("docker_words")]

TRIED_BELOW = {"HostConfig.NetworkMode", "HostConfig.Binds"}


def test_every_setting_of_the_profile_is_taken_away_once(profile: Profile) -> None:
    covered = {m.setting.split()[0] for m in (*LIVED, *DECLARED)} | TRIED_BELOW
    assert covered == {setting.path for setting in profile.settings}


def test_every_check_is_seen_to_fail() -> None:
    assert {m.check for m in DECLARED} | {"from an image ID"} == {check.name for check in CHECKS}


@pytest.mark.parametrize("mutation", LIVED, ids=lambda m: f"{m.setting}-{m.tool}")
async def test_without_the_setting_the_attempt_gets_through(
    engine: Engine, hostile_image: str, note: Note, mutation: Lived
) -> None:
    case = case_of(mutation.tool)
    with changed(mutation.change):
        async with contextlib.AsyncExitStack() as stack:
            if case.tool == "snoop":
                await stack.enter_async_context(canaries(engine, hostile_image))
            captive = await stack.enter_async_context(captured(engine, hostile_image))
            seen = await captive.attempt(case.tool, **case.arguments)
    got = {line.partition("=")[0] for line in case.escapes(seen)}
    note(f"without {mutation.setting}: {case.tool}", f"not stopped: {', '.join(mutation.expect)}", mutation.safe)
    assert set(mutation.expect) <= got, seen


async def test_on_a_bridge_the_host_s_ports_are_reached(engine: Engine, hostile_image: str, note: Note) -> None:
    with listening() as listener, changed(bridge):
        async with captured(engine, hostile_image) as captive:
            assert captive.box is not None
            gateway = engine.api.inspect_container(captive.box.id)["NetworkSettings"]["Gateway"]
            seen = await captive.attempt("tcp", targets=f"{gateway}|{listener.port}")
        arrived = listener.arrived()
    note("without HostConfig.NetworkMode: tcp", "not stopped: the host's port", "only the test's own listener is tried")
    assert set(seen.values()) == {"THROUGH"}
    assert arrived == 1


async def test_on_the_host_s_network_abstract_sockets_are_reached(
    engine: Engine, hostile_image: str, note: Note
) -> None:
    def on_host(body: dict[str, Any]) -> None:
        body.pop("NetworkDisabled", None)
        host(NetworkMode="host")(body)

    name = f"hm-escape-host-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as ours, changed(on_host):
        ours.bind(f"\0{name}")
        ours.listen()
        async with captured(engine, hostile_image) as captive:
            seen = await captive.attempt("abstract", socket=name)
    note(
        "without HostConfig.NetworkMode: abstract",
        "not stopped: abstract socket",
        "only the test's own socket is tried",
    )
    assert seen == {"abstract socket": "THROUGH"}


@contextlib.contextmanager
def stand_in() -> Iterator[Path]:
    """A socket that is not the engine's, where anyone may connect."""
    with tempfile.TemporaryDirectory() as place, socket.socket(socket.AF_UNIX) as ours:
        path = Path(place) / "engine.sock"
        ours.bind(str(path))
        path.chmod(0o777)
        ours.listen()
        yield path


async def test_with_a_bind_mount_a_socket_of_the_host_is_reached(
    engine: Engine, hostile_image: str, note: Note
) -> None:
    with stand_in() as path, changed(host(Binds=[f"{path}:/var/run/docker.sock"])):
        async with captured(engine, hostile_image) as captive:
            seen = await captive.attempt("engine_sockets")
    note("without HostConfig.Binds: engine_sockets", "not stopped: /var/run/docker.sock", "a socket of the test's own")
    assert "/var/run/docker.sock=THROUGH" in case_of("engine_sockets").escapes(seen)


@pytest.fixture(scope="module")
def other(engine: Engine, echo_image: str) -> Iterator[str]:
    """A container of somebody else, never started."""
    container = engine.api.create_container(echo_image, volumes=["/data"])["Id"]
    yield container
    containers.remove(engine, container)


@pytest.mark.parametrize("mutation", DECLARED, ids=lambda m: f"{m.setting}-{m.check}".replace(" ", "-"))
def test_a_container_without_the_setting_fails_its_check(
    engine: Engine, profile: Profile, hostile_image: str, other: str, mutation: Declared
) -> None:
    body = made(engine, profile, hostile_image)
    mutation.change(body)
    if body["HostConfig"].get("VolumesFrom"):
        body["HostConfig"]["VolumesFrom"] = [other]
    assert check_of(mutation.check).find(inspected(engine, body)) != ""


def test_the_unchanged_container_passes_every_check(engine: Engine, profile: Profile, hostile_image: str) -> None:
    box = inspected(engine, made(engine, profile, hostile_image))
    assert {check.name: found for check in CHECKS if (found := check.find(box))} == {}


def made(engine: Engine, profile: Profile, image: str) -> dict[str, Any]:
    spec = SandboxSpec("hostile", image, limits=LIMITS)
    return container_config(profile, spec, engine.image_facts(image))


def inspected(engine: Engine, body: dict[str, Any]) -> dict[str, Any]:
    """As the engine reports a container that was made so, and never started."""
    container = engine.api.create_container_from_config(body)["Id"]
    try:
        found: dict[str, Any] = engine.api.inspect_container(container)
    finally:
        containers.remove(engine, container)
    return found
