"""What a hostile server finds inside: a probe tries it, in a real sandbox with the default profile."""

from __future__ import annotations

import errno
import platform
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from sandbox.engine import Engine
from tests.fixtures.images import build_probe_image
from tests.sandbox.conftest import Start

pytestmark = pytest.mark.engine
Probe = Callable[..., Awaitable[dict[str, int]]]

ABSENT = {
    "clone3",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "io_setup",
    "memfd_secret",
    "process_madvise",
}
KILLED_BY_SIGSYS = 1000 + 31  # entry points of another architecture


@pytest.fixture(params=[True, False], ids=["image-with-hosts", "image-without-hosts"])
def any_image(engine: Engine, request: pytest.FixtureRequest) -> str:
    """Both ways a sandbox gets its empty network."""
    return build_probe_image(engine, hosts=request.param)


async def test_every_dangerous_system_call_is_refused(probe: Probe) -> None:
    results = await probe("calls")
    expected = {name: errno.ENOSYS if name in ABSENT else errno.EPERM for name in results}
    expected |= {name: KILLED_BY_SIGSYS for name in ("int80", "x32") if name in results}
    assert results == expected
    assert len(results) > 60


async def test_what_ordinary_servers_need_works(probe: Probe, any_image: str) -> None:
    results = await probe("works", image=any_image)
    assert results == dict.fromkeys(results, 0)
    assert {"thread", "fork", "loopback", "memfd_create", "write_tmp"} <= set(results)


async def test_nothing_of_the_system_can_be_written_and_root_cannot_be_had(probe: Probe, any_image: str) -> None:
    results = await probe("files", image=any_image)
    assert results.pop("root") == errno.EROFS
    assert results.pop("outside") == errno.ENETUNREACH
    assert results.pop("kallsyms_bytes") == 0
    for absent in ("engine_socket", "sysrq", "run", "var_tmp"):
        assert results.pop(absent) in (errno.ENOENT, errno.EACCES)
    if results["init_program"] == errno.ENOENT:  # engines put their init at different paths
        results.pop("init_program")
    assert {name for name, number in results.items() if number not in (errno.EACCES, errno.EROFS, errno.EPERM)} == set()


async def test_it_runs_as_nobody_without_capabilities_under_both_locks(start: Start, probe_image: str) -> None:
    status = await fields(start, probe_image, "status")
    assert status["Uid"].split() == ["65532"] * 4
    assert status["Gid"].split() == ["65532"] * 4
    assert status["Groups"].split() in ([], ["65532"])
    assert {status[k] for k in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


async def fields(start: Start, image: str, mode: str) -> dict[str, str]:
    run = await start(image, mode)
    await run.end()
    pairs = (line.decode().partition(":") for line in run.all_lines())
    return {name: value.strip() for name, _, value in pairs}


async def lines(start: Start, image: str, *mode: str) -> list[str]:
    run = await start(image, *mode)
    await run.end()
    return [line.decode() for line in run.all_lines()]


async def test_loopback_is_the_only_interface(start: Start, any_image: str) -> None:
    assert await lines(start, any_image, "interfaces") == ["lo"]


async def test_its_namespaces_are_its_own(start: Start, any_image: str, engine: Engine) -> None:
    run = await start(any_image, "unread")
    assert run.box is not None
    pid = engine.api.inspect_container(run.box.id)["State"]["Pid"]
    theirs, ours = namespaces(pid), namespaces("self")
    if not theirs:
        pytest.skip("the engine's processes are not visible from here")
    if engine.info().name == "podman" and engine.info().cgroup == "1":
        theirs.pop("cgroup")  # Podman leaves it the host's on cgroup v1
    assert [kind for kind in theirs if theirs[kind] == ours[kind]] == []


def namespaces(pid: int | str) -> dict[str, str]:
    kinds = ("net", "pid", "mnt", "ipc", "uts", "cgroup")
    place = Path(f"/proc/{pid}/ns")
    return {kind: str((place / kind).readlink()) for kind in kinds} if place.exists() else {}


async def test_it_sees_only_its_own_processes(start: Start, probe_image: str) -> None:
    assert len(await lines(start, probe_image, "processes")) == 2  # init and itself


async def test_tmp_can_be_filled_to_its_size_and_no_file_grows_past_its_limit(probe: Probe) -> None:
    limits = {"tmp_mb": 32, "file_mb": 8}
    results = await probe("filltmp", limits=limits)
    assert results["one_file_mb"] == 8
    assert results["one_file_errno"] == errno.EFBIG
    assert 30 <= results["tmp_mb"] <= 32
    assert results["tmp_errno"] == errno.ENOSPC


async def test_programs_in_tmp_run_only_when_the_entry_asks(probe: Probe) -> None:
    assert await probe("tmpexec") == {"exec": errno.EACCES}
    assert await probe("tmpexec", limits={"tmp_exec": True}) == {"exec": 0}


async def test_a_fork_bomb_stops_at_the_pids_limit(probe: Probe) -> None:
    results = await probe("forkbomb", limits={"pids": 32})
    assert results["errno"] == errno.EAGAIN
    assert 24 <= results["forks"] < 32


async def test_open_files_stop_at_their_limit(probe: Probe) -> None:
    assert await probe("openfiles", limits={"nofile": 100}) == {"open": 100, "errno": errno.EMFILE}


async def test_a_memory_bomb_ends_as_out_of_memory(start: Start, probe_image: str, engine: Engine) -> None:
    run = await start(probe_image, "memorybomb", limits={"memory_mb": 32, "tmp_mb": 8})
    end = await run.end()
    assert end.status == 128 + 9
    if engine.info().name == "docker" or engine.info().cgroup == "2":  # Podman does not notice it on cgroup v1
        assert (end.oom, end.reason) == (True, "out of memory")


async def test_the_rights_of_each_mount_are_tight(start: Start, probe_image: str) -> None:
    mounts = {m.split()[1]: set(m.split()[3].split(",")) for m in await lines(start, probe_image, "mounts")}
    assert "ro" in mounts["/"]
    for writable in {"/tmp", "/dev/shm", "/run", "/var/tmp"} & set(mounts):
        assert {"nosuid", "nodev", "noexec"} <= mounts[writable]
    for kernel in ("/sys", "/proc/sys", "/proc/bus", "/proc/irq"):
        assert "ro" in mounts[kernel]


async def test_a_volume_that_the_image_declares_is_bounded_memory(start: Start, engine: Engine) -> None:
    image = build_probe_image(engine, Volumes={"/data": {}})
    run = await start(image, "mounts")
    await run.end()
    mounts = [line.decode().split() for line in run.all_lines()]
    assert [m[2] for m in mounts if m[1] == "/data"] == ["tmpfs"]


async def test_what_the_image_says_about_its_user_is_kept_only_if_it_is_a_number(start: Start, engine: Engine) -> None:
    for said, runs_as in (("1000", "1000"), ("root", "65532"), ("app", "65532")):
        image = build_probe_image(engine, User=said)
        status: dict[str, Any] = await fields(start, image, "status")
        assert set(status["Uid"].split()) == {runs_as}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="32-bit entry points are an x86 matter")
async def test_calls_of_other_architectures_kill_the_caller(probe: Probe) -> None:
    results = await probe("calls")
    assert results["int80"] == results["x32"] == KILLED_BY_SIGSYS
