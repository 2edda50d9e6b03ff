"""The container checks of the CIS Docker Benchmark v1.6.0, section 5, by what each is for, on ``docker inspect``'s answer.

By intent, not letter: a security option that is not SELinux is no SELinux, a capability that was not added is not one that was
dropped.  Each check returns "" when it holds, else what it found.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Inspected = dict[str, Any]
MIB = 1024 * 1024
MOST = {"memory": 16384 * MIB, "pids": 4096, "nofile": 65536, "tmp": 4096 * MIB, "shm": 64 * MIB}  # an entry's bounds
DANGEROUS_CALLS = {
    "mount",
    "ptrace",
    "bpf",
    "perf_event_open",
    "keyctl",
    "userfaultfd",
    "unshare",
    "setns",
    "kexec_load",
}
KERNEL_MASKED = {"/proc/kcore", "/proc/keys", "/proc/kallsyms", "/proc/timer_list", "/proc/acpi", "/sys/firmware"}
KERNEL_LOCKED = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}


@dataclass(frozen=True)
class Check:
    """``cis``: recommendations of section 5 (and 4.1) whose purpose this serves."""

    name: str
    cis: tuple[str, ...]
    find: Callable[[Inspected], str]


def holds(condition: bool, found: Any) -> str:
    return "" if condition else repr(found)


def options(box: Inspected) -> list[str]:
    return list(box["HostConfig"].get("SecurityOpt") or ())


def not_root(box: Inspected) -> str:
    uid, _, gid = box["Config"]["User"].partition(":")
    return holds(uid.isdigit() and int(uid) > 0 and gid.isdigit() and int(gid) > 0, box["Config"]["User"])


def no_capability(box: Inspected) -> str:
    dropped, added = box["HostConfig"].get("CapDrop") or [], box["HostConfig"].get("CapAdd") or []
    return holds("ALL" in dropped and not added, {"dropped": dropped, "added": added})


def no_new_privileges(box: Inspected) -> str:
    asked = {o.replace(":", "=") for o in options(box) if o.startswith("no-new-privileges")}
    return holds(bool(asked) and asked <= {"no-new-privileges", "no-new-privileges=true"}, asked)


def system_call_filter(box: Inspected) -> str:
    """5.22: our own list, that denies what it does not name, and names nothing dangerous as allowed."""
    lists = [o.removeprefix("seccomp=") for o in options(box) if o.startswith("seccomp=")]
    if len(lists) != 1 or not lists[0].startswith("{"):
        return repr([text[:40] for text in lists])
    rules = json.loads(lists[0])
    allowed = {n for rule in rules.get("syscalls", ()) if rule["action"] == "SCMP_ACT_ALLOW" for n in rule["names"]}
    return holds(rules["defaultAction"] == "SCMP_ACT_ERRNO" and not allowed & DANGEROUS_CALLS, rules["defaultAction"])


def labels_stay(box: Inspected) -> str:
    """5.2 and 5.3: what the host's AppArmor or SELinux would do is not switched off."""
    off = [o for o in options(box) if ("unconfined" in o and "apparmor" in o) or o.replace(":", "=") == "label=disable"]
    return holds(not off and box.get("AppArmorProfile") != "unconfined", off)


def writable_places(box: Inspected) -> str:
    wrong = []
    for path, flags in (box["HostConfig"].get("Tmpfs") or {}).items():
        said = set(flags.split(","))
        size = next((int(f.removeprefix("size=")) for f in said if f.startswith("size=")), 0)
        if not {"nosuid", "nodev"} <= said or not 0 < size <= MOST["tmp"]:
            wrong.append(f"{path}: {flags}")
    shared = box["HostConfig"]["ShmSize"]
    return holds(not wrong and 0 < shared <= MOST["shm"], wrong or f"/dev/shm of {shared} bytes")


def memory(box: Inspected) -> str:
    """Swap included.  An engine without swap accounting reports -1 for a total that cannot be exceeded (no swap)."""
    limit, total = box["HostConfig"]["Memory"], box["HostConfig"]["MemorySwap"]
    return holds(0 < limit <= MOST["memory"] and total == limit, {"memory": limit, "with swap": total})


def cpu(box: Inspected) -> str:
    cores, shares = box["HostConfig"]["NanoCpus"], box["HostConfig"]["CpuShares"]
    return holds(cores > 0 and 0 < shares < 1024, {"billionths": cores, "shares": shares})


def processes(box: Inspected) -> str:
    return holds(0 < (box["HostConfig"]["PidsLimit"] or 0) <= MOST["pids"], box["HostConfig"]["PidsLimit"])


def files_and_cores(box: Inspected) -> str:
    hard = {u["Name"]: u["Hard"] for u in box["HostConfig"].get("Ulimits") or ()}
    good = 0 < hard.get("nofile", 0) <= MOST["nofile"] and hard.get("fsize", 0) > 0 and hard.get("core", -1) == 0
    return holds(good, hard)


def no_network(box: Inspected) -> str:
    mode = box["HostConfig"]["NetworkMode"]
    joined = set(box["NetworkSettings"].get("Networks") or ())
    return holds((mode == "none" or mode.startswith("container:")) and joined <= {"none"}, mode)


def no_port(box: Inspected) -> str:
    asked = box["HostConfig"].get("PortBindings"), box["HostConfig"].get("PublishAllPorts")
    return holds(not any(asked) and not box["NetworkSettings"].get("Ports"), asked)


def nothing_of_the_host(box: Inspected) -> str:
    """5.6, 5.20, 5.32, and with them every path to the engine's socket: there is no mount at all but memory."""
    kept = {
        name: box["HostConfig"].get(name) for name in ("Binds", "VolumesFrom", "Mounts") if box["HostConfig"].get(name)
    }
    mounted = [m for m in box["Mounts"] if m["Type"] != "tmpfs"]
    return holds(not kept and not mounted, kept or mounted)


def no_device(box: Inspected) -> str:
    given = {
        n: box["HostConfig"].get(n)
        for n in ("Devices", "DeviceRequests", "DeviceCgroupRules")
        if box["HostConfig"].get(n)
    }
    return holds(not given, given)


def own_name_spaces(box: Inspected) -> str:
    settings = box["HostConfig"]
    modes = {kind: settings[kind] for kind in ("IpcMode", "PidMode", "UTSMode", "CgroupnsMode")}
    return holds(modes == {"IpcMode": "private", "PidMode": "", "UTSMode": "", "CgroupnsMode": "private"}, modes)


def value_of(path: str, *right: Any) -> Callable[[Inspected], str]:
    def find(box: Inspected) -> str:
        at: Any = box
        for part in path.split("."):
            at = at.get(part)
        return holds(at in right, at)

    return find


def kernel_files(box: Inspected) -> str:
    masked, locked = set(box["HostConfig"]["MaskedPaths"] or ()), set(box["HostConfig"]["ReadonlyPaths"] or ())
    return holds(
        masked >= KERNEL_MASKED and locked >= KERNEL_LOCKED, sorted(KERNEL_MASKED - masked | KERNEL_LOCKED - locked)
    )


def no_command_on_a_timer(box: Inspected) -> str:
    asked = (box["Config"].get("Healthcheck") or {}).get("Test")
    return holds(asked == ["NONE"] and "Health" not in box["State"], asked)


def stops_when_asked(box: Inspected) -> str:
    asked = box["Config"].get("StopSignal"), box["Config"].get("StopTimeout")
    return holds(asked[0] == "SIGTERM" and 0 < (asked[1] or 0) <= 10, asked)


def stdio(box: Inspected) -> str:
    said = {key: box["Config"][key] for key in ("Tty", "OpenStdin", "StdinOnce")}
    return holds(said == {"Tty": False, "OpenStdin": True, "StdinOnce": True}, said)


def from_an_id(box: Inspected) -> str:
    return holds(box["Image"] == box["Config"]["Image"] and box["Image"].startswith("sha256:"), box["Config"]["Image"])


CHECKS = (
    Check("not root", ("4.1", "5.24"), not_root),
    Check("AppArmor and SELinux", ("5.2", "5.3"), labels_stay),
    Check("no capability", ("5.4",), no_capability),
    Check("not privileged", ("5.5",), value_of("HostConfig.Privileged", False)),
    Check("nothing of the host", ("5.6", "5.20", "5.32"), nothing_of_the_host),
    Check("no port", ("5.8", "5.9", "5.14"), no_port),
    Check("no network", ("5.10", "5.30"), no_network),
    Check("memory", ("5.11",), memory),
    Check("CPU", ("5.12",), cpu),
    Check("read-only root", ("5.13",), value_of("HostConfig.ReadonlyRootfs", True)),
    Check("writable places", ("5.13",), writable_places),
    Check("not restarted", ("5.15",), value_of("HostConfig.RestartPolicy.Name", "no", "")),
    Check("name spaces of its own", ("5.16", "5.17", "5.21"), own_name_spaces),
    Check("no device", ("5.18",), no_device),
    Check("files and cores", ("5.19",), files_and_cores),
    Check("system call filter", ("5.22",), system_call_filter),
    Check("counted by the engine", ("5.25",), value_of("HostConfig.CgroupParent", "")),
    Check("no new privileges", ("5.26",), no_new_privileges),
    Check("no command on a timer", ("5.27",), no_command_on_a_timer),
    Check("from an image ID", ("5.28",), from_an_id),
    Check("processes", ("5.29",), processes),
    Check("user name space", ("5.31",), value_of("HostConfig.UsernsMode", "")),
    Check("kernel files", (), kernel_files),
    Check("dies before the host", (), lambda box: holds(box["HostConfig"]["OomScoreAdj"] > 0, box["HostConfig"]["OomScoreAdj"])),
    Check("init", (), value_of("HostConfig.Init", True)),
    Check("its end is read", (), value_of("HostConfig.AutoRemove", False)),
    Check("no log on disk", (), lambda box: holds(box["HostConfig"]["LogConfig"]["Type"] == "none" and not box["LogPath"], box["HostConfig"]["LogConfig"])),
    Check("tells no host name", ("5.21",), value_of("Config.Hostname", "sandbox")),
    Check("stops when asked", (), stops_when_asked),
    Check("stdio", (), stdio),
)  # fmt: skip
# Section 5 without those that say how to use the engine, not what a container is
NOT_OURS = {
    "5.1": "swarm mode is not used",
    "5.7": "no SSH server: the image's one program runs",
    "5.23": "nothing here runs `exec`",
}


def check_of(name: str) -> Check:
    return next(check for check in CHECKS if check.name == name)
