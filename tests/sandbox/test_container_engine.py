from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path

import pytest

from harbourmaster.core.settings import Settings
from sandbox.engine import Engine, addresses
from sandbox.errors import EngineFailed, EngineMissing, EnginePermission, EngineWeak
from tests.fixtures.images import ECHO_SOURCE, build_image


def test_an_address_that_a_person_names_is_the_only_one_tried(tmp_path: Path) -> None:
    named = Settings.load(home=tmp_path, engine_url="tcp://127.0.0.1:1")
    assert addresses(named, {"DOCKER_HOST": "unix:///x"}) == ["tcp://127.0.0.1:1"]
    assert addresses(Settings.load(home=tmp_path, engine_url=""), {"DOCKER_HOST": "unix:///x"}) == ["unix:///x"]


def test_rootless_and_podman_sockets_are_tried_after_the_usual_one(tmp_path: Path) -> None:
    tried = addresses(Settings.load(home=tmp_path, engine_url=""), {"XDG_RUNTIME_DIR": "/run/user/7"})
    assert tried == [
        "unix:///var/run/docker.sock",
        "unix:///run/user/7/docker.sock",
        "unix:///run/user/7/podman/podman.sock",
        "unix:///run/podman/podman.sock",
    ]


@pytest.mark.parametrize("url", ["unix:///nonexistent/docker.sock", "tcp://127.0.0.1:1"])
def test_no_engine_is_named_with_its_address_and_a_remedy(tmp_path: Path, url: str) -> None:
    with pytest.raises(EngineMissing) as missing:
        Engine.connect(Settings.load(home=tmp_path, engine_url=url), {})
    assert missing.value.code == "engine.missing"
    assert url in missing.value.message
    assert "hm doctor" in missing.value.remedy


@pytest.mark.engine
@pytest.mark.skipif(os.geteuid() != 0, reason="must become another user to be refused")
def test_a_socket_that_is_not_for_us_is_a_matter_of_permission(tmp_path: Path) -> None:
    settings = Settings.load(home=tmp_path, engine_url="")
    os.seteuid(65534)
    try:
        with pytest.raises(EnginePermission) as refused:
            Engine.connect(settings, {"XDG_RUNTIME_DIR": "/nonexistent"})
    finally:
        os.seteuid(0)
    assert refused.value.code == "engine.permission"
    assert "docker group" in refused.value.remedy


@pytest.mark.engine
def test_the_engine_says_what_it_is(engine: Engine) -> None:
    info = engine.info()
    assert info.version[0].isdigit()
    assert info.cgroup in {"1", "2"}
    assert {"memory", "pids", "cpu"} <= info.limits
    engine.ping()
    engine.require_enforcement()


@pytest.mark.engine
@pytest.mark.parametrize("lacking", ["memory", "pids", "cpu", "seccomp"])
def test_an_engine_that_would_ignore_a_limit_is_not_used(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    info = engine.info()
    weak = replace(info, seccomp=False) if lacking == "seccomp" else replace(info, limits=info.limits - {lacking})
    monkeypatch.setattr(engine, "_info", weak)
    with pytest.raises(EngineWeak, match=lacking):
        engine.require_enforcement()


@pytest.mark.engine
def test_an_image_is_known_by_id_and_an_unknown_one_has_none(engine: Engine, echo_image: str) -> None:
    assert engine.image_id(echo_image) == echo_image
    assert engine.image_id("hm-test-absent:1") is None
    with pytest.raises(EngineFailed):
        engine.image_facts("sha256:" + "0" * 64)


@pytest.mark.engine
def test_what_an_image_asks_for_is_read_from_it(engine: Engine) -> None:
    image = build_image(engine, "hm-test-asks", ECHO_SOURCE, hosts=False, User="app", Volumes={"/data": {}})
    try:
        facts = engine.image_facts(image)
        assert (facts.user, facts.volumes, facts.has_hosts) == ("app", ("/data",), False)
    finally:
        engine.client.images.remove(image, force=True)


@pytest.mark.engine
def test_an_archive_that_is_no_image_is_an_error(engine: Engine) -> None:
    with pytest.raises(EngineFailed, match="load"):
        engine.load(io.BytesIO(b"not a tar archive"))


@pytest.mark.engine
def test_a_runtime_that_the_engine_would_pass_over_is_not_taken_for_the_one_asked_for(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker = replace(engine.info(), name="docker", runtimes=("runc", "runsc"), default_runtime="runc")
    monkeypatch.setattr(engine, "_info", docker)
    engine.require_runtime("runsc")
    monkeypatch.setattr(engine, "_info", replace(docker, name="podman"))
    engine.require_runtime("runc")
    with pytest.raises(EngineWeak, match="runsc"):
        engine.require_runtime("runsc")
