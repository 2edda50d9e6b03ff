"""The escape set: each attempt, what it tries, and exactly what must stop it.

A ``Case`` says for every line of the hostile server's report which outcomes mean that it was stopped.  Anything else (an
outcome, a line too many, a line too few) is an escape.  Bombs and floods, whose end is the sandbox's, are in
``test_escape_bombs.py`` and ``test_escape_speech.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

THROUGH = "THROUGH"
NOWHERE = frozenset({"ENETUNREACH"})  # no route: the name space has loopback only
NOBODY = frozenset({"ECONNREFUSED"})  # its own loopback, where nobody listens
NO_SIX = frozenset({"EAFNOSUPPORT", "EADDRNOTAVAIL"})  # a kernel without IPv6
REFUSED = frozenset({"EPERM"})  # by the system call list, or for want of a capability
ABSENT = frozenset({"ENOENT"})
CLOSED = frozenset({"EACCES", "EROFS", "ENOENT", "EPERM"})  # engines differ in what they put at these paths


@dataclass(frozen=True)
class Case:
    """``stopped``: what was tried -> the outcomes that mean it failed; ``rest``: those of lines not named there."""

    tool: str
    tried: str
    wall: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    stopped: Mapping[str, frozenset[str]] = field(default_factory=dict)
    rest: frozenset[str] = frozenset()

    def escapes(self, seen: Mapping[str, str]) -> list[str]:
        """``what=outcome`` of everything that was not stopped as it must be; empty when the sandbox holds."""
        wrong = [
            f"{what}={outcome}" for what, outcome in seen.items() if outcome not in self.stopped.get(what, self.rest)
        ]
        return wrong + [f"{what}=NOT_TRIED" for what in self.stopped if what not in seen]

    def observed(self, seen: Mapping[str, str]) -> str:
        """For the report: how many attempts, and what stopped them."""
        return f"{len(seen)} x {', '.join(sorted(set(seen.values())))}"


def outcomes(*names: str) -> frozenset[str]:
    return frozenset(names)


INTERNET = ("1.1.1.1|443", "8.8.8.8|53", "93.184.216.34|80", "255.255.255.255|9", "224.0.0.1|5353")
PRIVATE = ("10.0.0.1|80", "172.16.0.1|80", "172.17.0.1|80", "192.168.0.1|80", "192.168.65.2|80", "100.64.0.1|80")
METADATA = ("169.254.169.254|80", "169.254.170.2|80", "100.100.100.200|80", "168.63.129.16|80", "fd00:ec2::254|80")
SIX = (
    "2606:4700:4700::1111|443",
    "2001:4860:4860::8888|53",
    "fd00::1|80",
    "ff02::1|80",
    "::ffff:1.1.1.1|443",
    "64:ff9b::101:101|443",
)
EVERYWHERE = ",".join((*INTERNET, *PRIVATE, *METADATA, *SIX))
RESOLVERS = "1.1.1.1|53,8.8.8.8|53,9.9.9.9|53,2001:4860:4860::8888|53,127.0.0.11|53,127.0.0.53|53,127.0.0.1|53,::1|53"
FOR_SIX = {target: NOWHERE | NO_SIX for target in (*SIX, *METADATA) if ":" in target}
FOR_DNS = {
    **dict.fromkeys(("127.0.0.11|53", "127.0.0.53|53", "127.0.0.1|53"), NOBODY),
    "::1|53": NOBODY | NO_SIX,
    "2001:4860:4860::8888|53": NOWHERE | NO_SIX,
}
SPEAKING = (
    "endless_line",
    "flood",
    "chatter",
    "questions",
    "deep_json",
    "invalid_text",
    "terminal_escapes",
    "immortal",
)

CASES = (
    Case("tcp", "TCP to the internet, private networks, cloud metadata and over IPv6", "no route out of its network name space",
         {"targets": EVERYWHERE}, FOR_SIX, rest=NOWHERE),
    Case("udp", "UDP to the same", "no route out of its network name space", {"targets": EVERYWHERE},
         FOR_SIX | {"ff02::1|80": NOWHERE | NO_SIX | {"EINVAL"}}, rest=NOWHERE),  # multicast asks for an interface, and there is none
    Case("dns", "names that carry a secret, to public resolvers and to the engine's", "no route; nobody on its loopback",
         {"targets": RESOLVERS}, FOR_DNS, rest=NOWHERE),
    Case("icmp", "pings, IPv4 and IPv6, by ping socket and raw socket", "no route; no capability for raw sockets",
         stopped={"icmp ping socket": NOWHERE | {"EACCES"}, "icmp raw socket": REFUSED,
                  "icmpv6 ping socket": NOWHERE | {"EACCES"}, "icmpv6 raw socket": REFUSED}),
    Case("interfaces", "a network interface, an address, packet and VM sockets, a tunnel", "loopback only, no capability, socket families",
         stopped={"another address for lo": REFUSED, "packet socket": REFUSED, "virtual machine socket": REFUSED,
                  "bluetooth socket": REFUSED, "tun device": ABSENT}),
    Case("engine_sockets", "the engine's socket, and those of other daemons", "no file of the host is inside", rest=ABSENT),
    Case("credentials", "keys, tokens and password files; a file for root alone", "no file of the host is inside; not root",
         stopped={"/private": outcomes("EACCES"), "/proc/1/root/private": outcomes("EACCES")}, rest=CLOSED),
    Case("writing", "writing outside /tmp: everywhere, through a link, over its own program, kernel settings", "read-only root, not root",
         stopped={"/open/x": outcomes("EROFS"), "symlink out of /tmp": outcomes("EROFS"), "rename of /etc": outcomes("EROFS")},
         rest=CLOSED),
    Case("kernel_files", "kernel memory, addresses, keys, timers; mounts of kernel settings", "masked and read-only paths",
         rest=outcomes("EMPTY", "ENOENT", "EACCES", "EPERM", "EROFS")),
    Case("devices", "devices of the host, and making some", "no device; the system call list", rest=outcomes("ENOENT", "EPERM")),
    Case("rights", "root by setuid and setgid programs and calls; capabilities", "not root, none left, no new privileges",
         stopped={"setuid(0)": REFUSED, "setgid(0)": REFUSED, "setgroups": REFUSED, "chown of a file to root": REFUSED,
                  "new privileges": outcomes("OFF"), "system call filter": outcomes("ON")}, rest=outcomes("NONE")),
    Case("dropper", "running a program it wrote to /tmp or /dev/shm", "noexec", rest=outcomes("EACCES")),
    Case("namespaces", "unshare, clone, clone3 and setns, each kind of name space", "the system call list",
         stopped={"clone3 user": outcomes("ENOSYS")}, rest=REFUSED),
    Case("mounting", "mount, remount, bind, the new mount calls, chroot, file handles", "the system call list", rest=REFUSED),
    Case("kernel", "ptrace, bpf, perf, keyrings, userfaultfd, io_uring, modules, kexec, clocks and more", "the system call list",
         rest=outcomes("EPERM", "ENOSYS")),
    Case("limits", "raising its own limits, priority and place in the queue for memory", "hard limits, no capability",
         stopped={"core dumps": outcomes("OFF"), "first to go when the host is short": outcomes("YES"),
                  "asking to be spared": outcomes("EACCES"), "a higher priority": outcomes("EACCES", "EPERM"),
                  "more open files": REFUSED, "real-time scheduling": REFUSED}),
    Case("about_the_host", "the host's name and control groups", "its own name spaces", rest=outcomes("HIDDEN")),
    Case("fork_bomb", "a fork bomb of 64 processes", "run.sandbox.pids (32 here)", {"most": 64},
         {"processes": outcomes("EAGAIN"), "made": frozenset(map(str, range(20, 32)))}),
    Case("disk_bomb", "32 MB in many files of /tmp", "run.sandbox.tmp_mb (16 here)", {"where": "/tmp", "most_mb": 32},
         {"/tmp many files": outcomes("ENOSPC"), "written_mb": outcomes("15", "16")}),
    Case("disk_bomb", "16 MB in one file", "run.sandbox.file_mb (8 here)", {"where": "/tmp", "most_mb": 16, "one_file": 1},
         {"/tmp one file": outcomes("EFBIG"), "written_mb": outcomes("8")}),
    Case("disk_bomb", "32 MB of shared memory", "16 MB of /dev/shm", {"where": "/dev/shm", "most_mb": 32},
         {"/dev/shm many files": outcomes("ENOSPC"), "written_mb": outcomes("15", "16")}),
    Case("file_bomb", "256 open files", "run.sandbox.nofile (128 here)", {"most": 256},
         {"open files": outcomes("EMFILE"), "opened": frozenset(map(str, range(115, 128)))}),
    Case("cpu_hog", "two processes that only compute", "run.sandbox.cpus (0.1 here)", {"ms": 400}, {"every core": outcomes("THROTTLED")}),
    Case("zombies", "16 orphans that end at once", "an init that buries them", {"most": 16},
         {"zombies": outcomes("REAPED"), "left": outcomes("0")}),
)  # fmt: skip

MEMORY = Case(
    "memory_bomb", "a memory bomb of 128 MB", "run.sandbox.memory_mb (96 here)", {"most_mb": 128},
    {"sandbox": outcomes("ENDED: out of memory")},
)  # fmt: skip
CANARY = ("hm-canary-", "5f1d0c77a2")  # in two halves, so that the searcher does not find its own question
SNOOP = Case(
    "snoop", "another server's secret in /proc, environments, shared memory, files", "its own processes, IPC and mounts",
    {"first": CANARY[0], "second": CANARY[1]}, {"secret": outcomes("NOT_FOUND"), "other processes": outcomes("NONE")},
)  # fmt: skip

# Tools whose cases need something of the test's own (a listener, a canary, another process), or end the sandbox
OTHERS = ("abstract", "listen", "speak", "signals", "snoop", "memory_bomb", *SPEAKING)
TOOLS = (*dict.fromkeys(case.tool for case in CASES), *OTHERS)


def case_of(name: str) -> Case:
    """By tool, and an argument or its value where a tool has several cases: ``disk_bomb /dev/shm``."""
    tool, _, told = name.partition(" ")
    found = [case for case in (*CASES, MEMORY, SNOOP) if case.tool == tool]
    return next(c for c in found if not told or told in c.arguments or told in c.arguments.values())
