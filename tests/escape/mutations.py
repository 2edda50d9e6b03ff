"""Each setting of the profile taken away once, and the case that must notice.

``LIVED``: the sandbox runs with the setting changed and the matching attempt must get through.  Where taking it away could
harm the machine, the change is a safe one (``safe`` says which): raised rather than removed, or a stand-in of the test's
own rather than the host's.  Settings that show only to the engine are in ``DECLARED``: a container with the setting changed
is made, never started, and the matching check of ``checks.py`` must fail.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Body = dict[str, Any]
Change = Callable[[Body], None]
MIB = 1024 * 1024


def host(**settings: Any) -> Change:
    """Settings of HostConfig; None takes one away, so that the engine's own default applies."""

    def change(body: Body) -> None:
        for name, value in settings.items():
            if value is None:
                body["HostConfig"].pop(name, None)
            else:
                body["HostConfig"][name] = value

    return change


def config(**settings: Any) -> Change:
    def change(body: Body) -> None:
        for name, value in settings.items():
            if value is None:
                body.pop(name, None)
            else:
                body[name] = value

    return change


def security(without: str, *instead: str) -> Change:
    def change(body: Body) -> None:
        options = body["HostConfig"]["SecurityOpt"]
        body["HostConfig"]["SecurityOpt"] = [o for o in options if not o.startswith(without)] + list(instead)

    return change


def ulimit(name: str) -> Change:
    def change(body: Body) -> None:
        body["HostConfig"]["Ulimits"] = [u for u in body["HostConfig"]["Ulimits"] if u["Name"] != name]

    return change


def root(body: Body) -> None:
    body["User"] = "0:0"


def bridge(body: Body) -> None:
    body.pop("NetworkDisabled", None)
    body["HostConfig"]["NetworkMode"] = "bridge"


def tmpfs(old: str, new: str) -> Change:
    def change(body: Body) -> None:
        body["HostConfig"]["Tmpfs"]["/tmp"] = body["HostConfig"]["Tmpfs"]["/tmp"].replace(old, new)

    return change


def both(*changes: Change) -> Change:
    def change(body: Body) -> None:
        for one in changes:
            one(body)

    return change


@dataclass(frozen=True)
class Lived:
    """``expect``: lines of the attempt's report that must now differ from what stops them."""

    setting: str  # its path in the profile, with the part of it after a space
    change: Change
    tool: str
    expect: tuple[str, ...]
    safe: str = ""


LIVED = (
    Lived("User", root, "rights", ("being root",)),
    Lived("User", root, "credentials", ("/private",)),
    Lived("HostConfig.CapDrop", host(CapDrop=None), "rights", ("capabilities CapBnd",)),
    Lived("HostConfig.CapAdd", both(root, host(CapDrop=[], CapAdd=["NET_RAW"])), "icmp", ("icmp raw socket",),
          "one capability, without the drop that would win over it; its network name space stays empty"),
    Lived("HostConfig.SecurityOpt no-new-privileges", security("no-new-privileges"), "rights",
          ("new privileges", "setuid program", "setgid program")),
    Lived("HostConfig.SecurityOpt seccomp", security("seccomp=", "seccomp=unconfined"), "rights", ("system call filter",)),
    Lived("HostConfig.SecurityOpt seccomp", security("seccomp=", "seccomp=unconfined"), "namespaces",
          ("unshare user", "clone user", "unshare user and mount", "clone3 user")),
    Lived("HostConfig.SecurityOpt seccomp", security("seccomp=", "seccomp=unconfined"), "kernel",
          ("ptrace of oneself", "userfaultfd", "io_uring_setup", "keyctl", "personality", "shmget", "kernel crypto socket"),
          "its arguments do no harm where a call goes through"),
    Lived("HostConfig.ReadonlyRootfs", host(ReadonlyRootfs=False), "writing", ("/open/x", "symlink out of /tmp")),
    Lived("HostConfig.Tmpfs size", tmpfs("size=16777216", "size=67108864"), "disk_bomb", ("/tmp many files",),
          "raised to 64 MB, not unbounded; memory_mb bounds it too"),
    Lived("HostConfig.Tmpfs noexec", tmpfs("noexec", "exec"), "dropper", ("a program in /tmp",)),
    Lived("HostConfig.ShmSize", host(ShmSize=None), "disk_bomb /dev/shm", ("/dev/shm many files",), "the engine's 64 MB"),
    Lived("HostConfig.Memory", host(Memory=256 * MIB, MemorySwap=256 * MIB), "memory_bomb", ("memory",),
          "raised to 256 MB, not unbounded; the bomb ends at 128"),
    Lived("HostConfig.NanoCpus", host(NanoCpus=None), "cpu_hog", ("every core",), "for 0.4 s"),
    Lived("HostConfig.PidsLimit", host(PidsLimit=256), "fork_bomb", ("processes",), "raised to 256; the bomb ends at 64"),
    Lived("HostConfig.Ulimits nofile", ulimit("nofile"), "file_bomb", ("open files",), "the engine's; the bomb ends at 256"),
    Lived("HostConfig.Ulimits fsize", ulimit("fsize"), "disk_bomb one_file", ("/tmp one file",), "tmp_mb bounds it still"),
    Lived("HostConfig.Ulimits core", ulimit("core"), "limits", ("core dumps",)),
    Lived("HostConfig.OomScoreAdj", host(OomScoreAdj=None), "limits", ("first to go when the host is short",)),
    Lived("HostConfig.PidMode", host(PidMode="host", Init=False), "snoop", ("cmdline", "environ", "secret", "other processes"),
          "it looks for the test's own canary and reports nothing else"),
    Lived("HostConfig.IpcMode", host(IpcMode="host", ShmSize=None), "snoop", ("/dev/shm", "secret"), "as above"),
    Lived("HostConfig.UTSMode", both(host(UTSMode="host"), config(Hostname=None)), "about_the_host", ("host name",)),
    Lived("Hostname", config(Hostname=None), "about_the_host", ("host name",)),
    Lived("HostConfig.CgroupnsMode", host(CgroupnsMode="host"), "about_the_host", ("control group path",)),
    Lived("HostConfig.MaskedPaths", host(MaskedPaths=[]), "kernel_files", ("/proc/kallsyms", "/proc/interrupts"),
          "read as nobody, one byte of each"),
    Lived("HostConfig.ReadonlyPaths", host(ReadonlyPaths=[]), "kernel_files", ("/proc/sys is read-only",),
          "nothing is written"),
    Lived("HostConfig.Devices", host(Devices=[{"PathOnHost": "/dev/null", "PathInContainer": "/dev/kmsg", "CgroupPermissions": "r"}]),
          "devices", ("/dev/kmsg",), "the null device under another's name"),
    Lived("HostConfig.Init", host(Init=False), "zombies", ("zombies",)),
)  # fmt: skip


@dataclass(frozen=True)
class Declared:
    """``check``: the check of ``checks.py`` that must fail."""

    setting: str
    change: Change
    check: str


MOUNT = {"Type": "bind", "Source": "/var/run", "Target": "/var/run"}
DECLARED = (
    Declared("User", config(User=None), "not root"),
    Declared("User", config(User="0"), "not root"),
    Declared("HostConfig.CapDrop", host(CapDrop=None), "no capability"),
    Declared("HostConfig.CapDrop", host(CapDrop=["MKNOD"]), "no capability"),
    Declared("HostConfig.CapAdd", host(CapAdd=["NET_RAW"]), "no capability"),
    Declared("HostConfig.Privileged", host(Privileged=True), "not privileged"),
    Declared("HostConfig.SecurityOpt", security("no-new-privileges"), "no new privileges"),
    Declared("HostConfig.SecurityOpt", security("no-new-privileges", "no-new-privileges=false"), "no new privileges"),
    Declared("HostConfig.SecurityOpt", security("seccomp=", "seccomp=unconfined"), "system call filter"),
    Declared("HostConfig.SecurityOpt", security("seccomp="), "system call filter"),
    Declared("HostConfig.SecurityOpt", security("seccomp=", 'seccomp={"defaultAction":"SCMP_ACT_ALLOW"}'), "system call filter"),
    Declared("HostConfig.SecurityOpt", security("none", "apparmor=unconfined"), "AppArmor and SELinux"),
    Declared("HostConfig.SecurityOpt", security("none", "label=disable"), "AppArmor and SELinux"),
    Declared("HostConfig.ReadonlyRootfs", host(ReadonlyRootfs=False), "read-only root"),
    Declared("HostConfig.Tmpfs", tmpfs("size=16777216,", ""), "writable places"),
    Declared("HostConfig.Tmpfs", tmpfs("nosuid,", ""), "writable places"),
    Declared("HostConfig.Tmpfs", tmpfs("nodev,", ""), "writable places"),
    Declared("HostConfig.ShmSize", host(ShmSize=1024 * MIB), "writable places"),
    Declared("HostConfig.Memory", host(Memory=None, MemorySwap=None), "memory"),
    Declared("HostConfig.MemorySwap", host(MemorySwap=-1), "memory"),
    Declared("HostConfig.NanoCpus", host(NanoCpus=None), "CPU"),
    Declared("HostConfig.CpuShares", host(CpuShares=None), "CPU"),
    Declared("HostConfig.CpuShares", host(CpuShares=1024), "CPU"),
    Declared("HostConfig.PidsLimit", host(PidsLimit=None), "processes"),
    Declared("HostConfig.PidsLimit", host(PidsLimit=-1), "processes"),
    Declared("HostConfig.Ulimits", host(Ulimits=None), "files and cores"),
    Declared("HostConfig.OomScoreAdj", host(OomScoreAdj=-500), "dies before the host"),
    Declared("HostConfig.NetworkMode", bridge, "no network"),
    Declared("HostConfig.NetworkMode", host(NetworkMode="host"), "no network"),
    Declared("HostConfig.PublishAllPorts", host(PublishAllPorts=True), "no port"),
    Declared("HostConfig.PortBindings", host(PortBindings={"80/tcp": [{"HostPort": "0"}]}), "no port"),
    Declared("HostConfig.Binds", host(Binds=["/var/run/docker.sock:/var/run/docker.sock"]), "nothing of the host"),
    Declared("HostConfig.Binds", host(Mounts=[MOUNT]), "nothing of the host"),
    Declared("HostConfig.VolumesFrom", host(VolumesFrom=["{other}"]), "nothing of the host"),
    Declared("HostConfig.Devices", host(Devices=[{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "rw"}]), "no device"),
    Declared("HostConfig.DeviceRequests", host(DeviceRequests=[{"Count": 1, "Capabilities": [["gpu"]]}]), "no device"),
    Declared("HostConfig.IpcMode", host(IpcMode="host"), "name spaces of its own"),
    Declared("HostConfig.IpcMode", host(IpcMode="shareable"), "name spaces of its own"),
    Declared("HostConfig.PidMode", host(PidMode="host"), "name spaces of its own"),
    Declared("HostConfig.UTSMode", both(host(UTSMode="host"), config(Hostname=None)), "name spaces of its own"),
    Declared("HostConfig.CgroupnsMode", host(CgroupnsMode="host"), "name spaces of its own"),
    Declared("HostConfig.UsernsMode", host(UsernsMode="host"), "user name space"),
    Declared("HostConfig.CgroupParent", host(CgroupParent="/hm-escape-elsewhere"), "counted by the engine"),
    Declared("HostConfig.MaskedPaths", host(MaskedPaths=[]), "kernel files"),
    Declared("HostConfig.ReadonlyPaths", host(ReadonlyPaths=[]), "kernel files"),
    Declared("HostConfig.RestartPolicy", host(RestartPolicy={"Name": "always"}), "not restarted"),
    Declared("HostConfig.AutoRemove", both(host(AutoRemove=True)), "its end is read"),
    Declared("HostConfig.Init", host(Init=None), "init"),
    Declared("HostConfig.LogConfig", host(LogConfig=None), "no log on disk"),
    Declared("Healthcheck", config(Healthcheck=None), "no command on a timer"),
    Declared("Hostname", config(Hostname=None), "tells no host name"),
    Declared("StopSignal", config(StopSignal=None), "stops when asked"),
    Declared("StopTimeout", config(StopTimeout=600), "stops when asked"),
    Declared("Tty", config(Tty=True), "stdio"),
    Declared("OpenStdin", config(OpenStdin=False), "stdio"),
    Declared("StdinOnce", config(StdinOnce=False), "stdio"),
)  # fmt: skip
