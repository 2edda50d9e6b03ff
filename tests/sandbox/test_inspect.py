"""``docker inspect`` of a running sandbox, asserted against the default profile line by line."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from sandbox.engine import Engine
from sandbox.profile import Profile
from sandbox.sandbox import Sandbox
from sandbox.spec import SandboxSpec

pytestmark = pytest.mark.engine
MIB = 1024 * 1024
MANIFEST = "sha256:" + "d" * 64

# What the engine must report for each line of policies/profiles/default.yaml.  A set: any of these means the same.
EXPECTED: dict[str, Any] = {
    "User": "65532:65532",
    "HostConfig.CapDrop": ["ALL"],
    "HostConfig.CapAdd": [],
    "HostConfig.Privileged": False,
    "HostConfig.ReadonlyRootfs": True,
    "HostConfig.Tmpfs": {"/tmp": f"rw,nosuid,nodev,noexec,size={64 * MIB},mode=1777"},
    "HostConfig.ShmSize": 16 * MIB,
    "HostConfig.Memory": 512 * MIB,
    "HostConfig.MemorySwap": 512 * MIB,
    "HostConfig.NanoCpus": 1_000_000_000,
    "HostConfig.CpuShares": 256,
    "HostConfig.PidsLimit": 128,
    "HostConfig.OomScoreAdj": 500,
    "HostConfig.NetworkMode": "none",
    "HostConfig.PublishAllPorts": False,
    "HostConfig.PortBindings": {},
    "HostConfig.Binds": [],
    "HostConfig.VolumesFrom": [],
    "HostConfig.Devices": [],
    "HostConfig.DeviceRequests": [],
    "HostConfig.IpcMode": "private",
    "HostConfig.PidMode": "",
    "HostConfig.UTSMode": "",
    "HostConfig.UsernsMode": "",
    "HostConfig.CgroupnsMode": "private",
    "HostConfig.CgroupParent": "",
    "HostConfig.RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
    "HostConfig.AutoRemove": False,
    "HostConfig.Init": True,
    "HostConfig.LogConfig": {"Type": "none", "Config": {}},
    "Healthcheck": {"Test": ["NONE"]},
    "Hostname": "sandbox",
    "StopSignal": "SIGTERM",
    "StopTimeout": 2,
    "Tty": False,
    "OpenStdin": True,
    "StdinOnce": True,
}
CHECKED_BELOW = {"HostConfig.SecurityOpt", "HostConfig.Ulimits", "HostConfig.MaskedPaths", "HostConfig.ReadonlyPaths"}


@pytest.fixture(scope="module")
def inspected(engine: Engine, profile: Profile, echo_image: str) -> dict[str, Any]:
    if engine.info().name == "podman":
        pytest.skip("Podman reports its settings in other words; test_inside.py shows them from within")

    async def start_inspect_stop() -> dict[str, Any]:
        spec = SandboxSpec(server="echo", image_id=echo_image, image=MANIFEST)
        box = await Sandbox.start(engine, profile, spec, on_line=lambda _: None, on_exit=lambda _: None)
        try:
            found: dict[str, Any] = engine.api.inspect_container(box.id)
        finally:
            await box.stop()
        return found

    return asyncio.run(start_inspect_stop())


def reported(inspected: dict[str, Any], path: str) -> Any:
    at: Any = inspected if path.startswith("HostConfig.") else inspected["Config"]
    for part in path.split("."):
        at = at.get(part)
    return at


def test_every_line_of_the_profile_is_asserted_here(profile: Profile) -> None:
    assert {s.path for s in profile.settings} == set(EXPECTED) | CHECKED_BELOW


@pytest.mark.parametrize("path", sorted(EXPECTED))
def test_the_running_sandbox_has_each_line_of_the_profile(inspected: dict[str, Any], path: str) -> None:
    expected, actual = EXPECTED[path], reported(inspected, path)
    assert actual == expected or (expected in ([], {}) and actual is None)


def test_no_new_privileges_and_our_own_system_call_list_are_on(inspected: dict[str, Any], profile: Profile) -> None:
    options = inspected["HostConfig"]["SecurityOpt"]
    assert "no-new-privileges" in options
    seccomp = [o for o in options if o.startswith("seccomp=")]
    assert [json.loads(o.removeprefix("seccomp=")) for o in seccomp] == [json.loads(profile.seccomp)]
    assert not [o for o in options if "unconfined" in o or "disable" in o]
    assert inspected["AppArmorProfile"] != "unconfined"


def test_files_and_cores_are_limited(inspected: dict[str, Any]) -> None:
    limits = {u["Name"]: (u["Soft"], u["Hard"]) for u in inspected["HostConfig"]["Ulimits"]}
    assert limits == {"nofile": (1024, 1024), "fsize": (64 * MIB, 64 * MIB), "core": (0, 0)}


def test_kernel_memory_and_settings_are_masked(inspected: dict[str, Any]) -> None:
    masked, readonly = inspected["HostConfig"]["MaskedPaths"], inspected["HostConfig"]["ReadonlyPaths"]
    assert {"/proc/kcore", "/proc/keys", "/proc/kallsyms", "/proc/acpi", "/sys/firmware"} <= set(masked)
    assert {"/proc/sys", "/proc/sysrq-trigger", "/proc/bus", "/proc/fs", "/proc/irq"} == set(readonly)


def test_the_container_was_made_from_the_image_id(inspected: dict[str, Any], echo_image: str) -> None:
    assert inspected["Image"] == inspected["Config"]["Image"] == echo_image


def test_nothing_of_the_host_is_mounted(inspected: dict[str, Any]) -> None:
    assert inspected["Mounts"] == []


def test_there_is_no_network_but_loopback(inspected: dict[str, Any]) -> None:
    assert set(inspected["NetworkSettings"]["Networks"] or {}) <= {"none"}
    assert not inspected["NetworkSettings"]["Ports"]


def test_the_labels_are_those_the_reaper_looks_for(inspected: dict[str, Any], engine: Engine, profile: Profile) -> None:
    labels = inspected["Config"]["Labels"]
    assert labels["harbourmaster.sandbox"] == "1"
    assert labels["harbourmaster.home"] == engine.home_label
    assert re.fullmatch(r"[0-9a-f]{16}", engine.home_label)
    assert re.fullmatch(r"\d+-\d+", labels["harbourmaster.owner"])
    assert labels["harbourmaster.server"] == "echo"
    assert labels["harbourmaster.image"] == MANIFEST
    assert labels["harbourmaster.profile"] == profile.digest
    assert labels["harbourmaster.relaxed"] == ""
