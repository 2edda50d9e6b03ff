"""What an entry may ask for beyond numbers: places to write, the host's folders, rights.  Pure.

Each is off unless an entry names it with a reason, a policy allows it and a person agreed (docs/security.md, Relaxing it).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sandbox.errors import SpecRefused

# Those that some image needs to start as root; none that reaches the kernel, devices, the network or other processes
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID")
# What gives more than numbers do: no tier has these without a person's yes (policies/cedar/any.cedar)
STRONG = ("capability", "host-path", "root", "volume")
MAX_PLACES = 8

_INSIDE = re.compile(r"(?:/[A-Za-z0-9_][A-Za-z0-9._@ -]{0,99}){1,12}")
# Mounted over by the engine or by us, or where a mount would hide what the profile put there
_TAKEN = ("/bin", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run/secrets", "/sbin", "/sys", "/usr")
_USER = re.compile(r"(0|[1-9][0-9]{0,8}):(0|[1-9][0-9]{0,8})")  # one spelling each: an engine reads 00 as root too


@dataclass(frozen=True)
class HostPath:
    """``host``: a canonical path of the host; ``at``: where it is inside; ``write``: not only to read."""

    host: str
    at: str
    write: bool = False

    @classmethod
    def parse(cls, text: str) -> HostPath:
        """``HOST[:INSIDE][:ro|rw]``, as ``docker run -v`` takes it; read-only unless it says rw.  Raises ``SpecRefused``."""
        parts = text.split(":")
        mode = parts.pop() if parts[-1] in ("ro", "rw") else "ro"
        host, at = (parts[0], parts[-1]) if len(parts) in (1, 2) else ("", "")
        if not host.startswith("/") or "\0" in host or ".." in host.split("/"):
            raise SpecRefused(f"{text!r} is no path of this machine", remedy="write it as /PATH[:/INSIDE][:rw]")
        return cls(host, _inside(at), mode == "rw")

    @property
    def text(self) -> str:
        return f"{self.host}:{self.at}:{'rw' if self.write else 'ro'}"


@dataclass(frozen=True)
class Access:
    """``writable``: memory, gone with the sandbox; ``volumes``: kept on the engine's disk, between sessions."""

    writable: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    host_paths: tuple[HostPath, ...] = ()
    user: str = ""
    runtime: str = ""
    granted: frozenset[str] = field(default=frozenset())  # host paths that a person named for this server

    @classmethod
    def parse(cls, run: Mapping[str, Any], granted: Iterable[str] = ()) -> Access:
        """``run["asked"]`` of the lock is the entry's, ``granted`` a person's.  Raises ``SpecRefused``."""
        asked = {name: item.get("value") for name, item in (run.get("asked") or {}).items()}
        own = tuple(HostPath.parse(text) for text in granted)
        paths = {path.at: path for path in (*map(HostPath.parse, asked.get("host_paths") or ()), *own)}
        access = cls(
            writable=tuple(_inside(path) for path in asked.get("writable") or ()),
            volumes=tuple(_inside(path) for path in asked.get("volumes") or ()),
            capabilities=tuple(asked.get("capabilities") or ()),
            host_paths=tuple(paths.values()),
            user=str(asked.get("user") or ""),
            runtime=str(asked.get("runtime") or ""),
            granted=frozenset(path.host for path in own),
        )
        access.check()
        return access

    @property
    def is_root(self) -> bool:
        uid = self.user.partition(":")[0]
        return uid.isdecimal() and int(uid) == 0

    def check(self) -> None:
        """Raises ``SpecRefused``."""
        places = [*self.writable, *self.volumes, *(path.at for path in self.host_paths)]
        if len(places) > MAX_PLACES or len(set(places)) < len(places):
            raise SpecRefused(f"at most {MAX_PLACES} places may be asked for, each once")
        if unknown := sorted(set(self.capabilities) - set(CAPABILITIES)):
            raise SpecRefused(f"capability {unknown[0]} is given to nobody", remedy=f"one of {', '.join(CAPABILITIES)}")
        if self.user and not _USER.fullmatch(self.user):
            raise SpecRefused(f"user {self.user!r} is not uid:gid", remedy="write numbers, as in 0:0 or 1000:1000")
        if self.capabilities and not self.is_root:
            raise SpecRefused("a capability does nothing for a user other than root", remedy="ask for user 0:0 too")

    def relaxations(self) -> tuple[str, ...]:
        """For policies and people: the kinds of ``STRONG`` that apply, and each thing by its name."""
        named = [("writable", path) for path in self.writable]
        named += [("volume", path) for path in self.volumes]
        named += [("capability", name) for name in self.capabilities]
        named += [("host-path", path.text) for path in self.host_paths]
        named += [("root" if self.is_root else "user", self.user)] if self.user else []
        kinds = {kind for kind, _ in named if kind in STRONG}
        return tuple(sorted(kinds | {f"{kind}={what}" for kind, what in named}))


def explained(relaxed: Mapping[str, Mapping[str, Any]], granted: Iterable[str] = ()) -> list[str]:
    """What a server has beyond the default profile, with the entry's reasons, one line each."""
    lines = [f"{name} {_shown(item.get('value'))}, because: {item.get('reason', '')}" for name, item in relaxed.items()]
    return lines + [f"host path {text}, because you allowed it" for text in granted]


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def can_be_a_place(path: str) -> bool:
    """Whether something of its own may be mounted there."""
    return bool(_INSIDE.fullmatch(path)) and not any(path == taken or path.startswith(f"{taken}/") for taken in _TAKEN)


def _inside(path: str) -> str:
    if not can_be_a_place(path):
        raise SpecRefused(f"{path!r} cannot be a place of its own in a sandbox", remedy="choose another, as /data")
    return path
