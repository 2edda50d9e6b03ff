"""A profile plus a spec gives the body of POST /containers/create (Docker Engine API 1.41).  Pure but for reading files.

Nothing a caller says can take a setting away: overrides are numbers within the profile's bounds, and each is recorded in
a label.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

import policies
from harbourmaster.core.canonical import canonical_digest
from sandbox import secretfiles
from sandbox.access import HostPath
from sandbox.errors import ProfileInvalid, SpecRefused
from sandbox.owner import LABEL_HOME, LABEL_SERVER
from sandbox.spec import ImageFacts, SandboxSpec, image_user

POLICIES_DIR = Path(policies.__file__).parent
MIB = 1024 * 1024
MAX_IMAGE_VOLUMES = 8  # each becomes a tmpfs as large as /tmp; real images declare one or two
MAX_ENV_BYTES = 128 * 1024  # one argument or variable may not be longer: MAX_ARG_STRLEN, linux/binfmts.h
RUNTIMES = frozenset(
    {"", "runc", "crun", "runsc", "kata", "kata-runtime", "io.containerd.kata.v2", "io.containerd.runsc.v1"}
)

_IMAGE_ID = re.compile(r"sha256:[0-9a-f]{64}")
_SERVER = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}")
_CONTAINER_ID = re.compile(r"[0-9a-f]{64}")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,255}")


@dataclass(frozen=True)
class Limit:
    """A number that an entry may override.  ``least`` and ``most`` are None for a switch."""

    default: int | float | bool
    least: float | None
    most: float | None
    why: str


@dataclass(frozen=True)
class Setting:
    path: str  # dotted, in the create-container body
    value: Any
    cis: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Profile:
    """Usage: ``container_config(Profile.load(), spec)``.  ``digest`` covers all that has an effect (settings,
    limits, system calls) and no reason or comment, so that rewording one does not unlock every server."""

    name: str
    settings: tuple[Setting, ...]
    limits: dict[str, Limit]
    seccomp: str
    seccomp_file: Path
    digest: str

    @classmethod
    def load(cls, name: str = "default", directory: Path = POLICIES_DIR) -> Profile:
        """Raises ``ProfileInvalid`` when a file is missing or not in the form of ``policies/profiles/default.yaml``."""
        try:
            body = YAML(typ="safe").load((directory / "profiles" / f"{name}.yaml").read_bytes())
            seccomp_file = directory / "seccomp" / f"{body['seccomp']}.json"
            seccomp = json.loads(seccomp_file.read_bytes())
            for rule in seccomp["syscalls"]:
                rule.pop("comment", None)
            return cls(
                name=body["name"],
                settings=tuple(Setting(s["path"], s["value"], tuple(s["cis"]), s["why"]) for s in body["settings"]),
                limits={
                    n: Limit(v["default"], v.get("least"), v.get("most"), v["why"]) for n, v in body["limits"].items()
                },
                seccomp=json.dumps(seccomp, separators=(",", ":")),
                seccomp_file=seccomp_file,
                digest=canonical_digest(_effect(body, seccomp)),
            )
        except (OSError, KeyError, TypeError, ValueError, YAMLError) as e:
            reason = " ".join(f"{type(e).__name__}: {e}".split())
            raise ProfileInvalid(
                f"profile {name} in {directory} cannot be used: {reason}", remedy="restore policies/ from the project"
            ) from e


def _effect(body: dict[str, Any], seccomp: dict[str, Any]) -> dict[str, Any]:
    return {
        "settings": {s["path"]: s["value"] for s in body["settings"]},
        "limits": {n: [v["default"], v.get("least"), v.get("most")] for n, v in body["limits"].items()},
        "seccomp": seccomp,
    }


def container_config(profile: Profile, spec: SandboxSpec, image: ImageFacts | None = None) -> dict[str, Any]:
    """The create-container body.  Raises ``SpecRefused`` for anything that would weaken the profile."""
    image = image or ImageFacts()
    check_spec(profile, spec, image)
    limits = effective_limits(profile, spec)
    body: dict[str, Any] = {"HostConfig": {}}
    for setting in profile.settings:
        _put(body, setting.path, _resolve(profile, setting, limits))
    for volume in image.volumes:
        body["HostConfig"]["Tmpfs"][volume] = _tmpfs(limits)
    body.update(
        Image=spec.image_id,
        Env=[f"{k}={v}" for k, v in ({"HOME": "/tmp"} | dict(spec.env)).items()],  # noqa: S108 - inside the sandbox
        Labels=dict(spec.labels) | _record(profile, spec),
        User=spec.access.user or spec.user or image_user(image.user),
        AttachStdin=True,
        AttachStdout=True,
        AttachStderr=True,
    )
    if not spec.is_told:  # it reads an end of file
        body |= {"AttachStdin": False, "OpenStdin": False, "StdinOnce": False}
    if spec.network_of:
        # The relay's name space, which the same profile made empty; hosts file and name come with it
        body["HostConfig"]["NetworkMode"] = f"container:{spec.network_of}"
        del body["Hostname"]
    elif image.has_hosts:
        # The engine then sets up no end point of its `none` network, which is half of a start's time (207 -> 100 ms on
        # Docker 20.10).  The sandbox still has its own network name space with loopback; only /etc/hosts is empty.
        body["NetworkDisabled"] = True
    if spec.command:
        body["Cmd"] = list(spec.command)
    if spec.secret_files:
        body |= secretfiles.wrapped(spec, image)
        body["HostConfig"]["Tmpfs"] |= secretfiles.mount(body["User"])
    if runtime := spec.runtime or spec.access.runtime:
        body["HostConfig"]["Runtime"] = runtime
    _open_up(body["HostConfig"], spec, limits)
    return body


def _open_up(host: dict[str, Any], spec: SandboxSpec, limits: dict[str, Any]) -> None:
    """What people agreed to, in the engine's words; nothing of it is there unless it was asked for."""
    access = spec.access
    for path in access.writable:
        host["Tmpfs"][path] = _tmpfs(limits)
    if access.capabilities:
        host["CapAdd"] = [f"CAP_{name}" for name in access.capabilities]
    mounts = [_bind(path) for path in access.host_paths] + [_volume(spec, path) for path in access.volumes]
    for mount in mounts:
        host["Tmpfs"].pop(mount["Target"], None)  # what the image declared as a volume there
        host.setdefault("Mounts", []).append(mount)


def _bind(path: HostPath) -> dict[str, Any]:
    """Not recursive: a file system that is mounted below would not be read-only with it."""
    options = {"Propagation": "rprivate", "NonRecursive": True}
    return {"Type": "bind", "Source": path.host, "Target": path.at, "ReadOnly": not path.write, "BindOptions": options}


def _volume(spec: SandboxSpec, path: str) -> dict[str, Any]:
    name = volume_name(spec.labels.get(LABEL_HOME, ""), spec.server, path)
    labels = {LABEL_HOME: spec.labels.get(LABEL_HOME, ""), LABEL_SERVER: spec.server}
    return {"Type": "volume", "Source": name, "Target": path, "VolumeOptions": {"NoCopy": True, "Labels": labels}}


def volume_name(home: str, server: str, path: str) -> str:
    """One for each home, server and place: what a server keeps is its own."""
    return f"hm-{server[:40]}-{hashlib.sha256(f'{home}|{server}|{path}'.encode()).hexdigest()[:16]}"


def for_podman(profile: Profile, body: dict[str, Any]) -> dict[str, Any]:
    """The same body for Podman's compatible API (tried with 4.3), which differs in three things.

    The system call list is the path of a file; paths to mask are a security option (``MaskedPaths`` is passed over); and
    a read-only root brings writable, unsized tmpfs at /run and /var/tmp unless ours, which only root may write, are there.
    """
    host = body["HostConfig"]
    options = [f"seccomp={profile.seccomp_file}" if o.startswith("seccomp=") else o for o in host["SecurityOpt"]]
    options.append("mask=" + ":".join(host["MaskedPaths"]))
    closed = dict.fromkeys(("/run", "/var/tmp"), "rw,nosuid,nodev,noexec,size=65536,mode=755")  # noqa: S108
    return body | {"HostConfig": host | {"SecurityOpt": options, "Tmpfs": closed | host["Tmpfs"]}}


def effective_limits(profile: Profile, spec: SandboxSpec) -> dict[str, int | float | bool]:
    return {name: spec.limits.get(name, limit.default) for name, limit in profile.limits.items()}


def relaxations(profile: Profile, spec: SandboxSpec) -> tuple[str, ...]:
    """``name=value`` for each override that gives a server more than the profile does; stricter ones do not count."""
    numbers = tuple(f"{name}={spec.limits[name]}" for name in looser(profile, spec.limits))
    return numbers + tuple(each for each in spec.access.relaxations() if "=" in each)


def looser(profile: Profile, limits: Mapping[str, int | float | bool]) -> tuple[str, ...]:
    """The names of those overrides that give more than the profile does."""
    return tuple(sorted(n for n, v in limits.items() if n in profile.limits and v > profile.limits[n].default))


def _record(profile: Profile, spec: SandboxSpec) -> dict[str, str]:
    return {
        "harbourmaster.profile": profile.digest,
        "harbourmaster.relaxed": ",".join(relaxations(profile, spec)),
    }


def _put(body: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for part in parents:
        body = body.setdefault(part, {})
    body[last] = value


def _resolve(profile: Profile, setting: Setting, limits: dict[str, Any]) -> Any:
    value = setting.value
    match setting.path:
        case "HostConfig.SecurityOpt":
            return [f"seccomp={profile.seccomp}" if isinstance(v, dict) else v for v in value]
        case "HostConfig.Tmpfs":
            return dict.fromkeys(value, _tmpfs(limits))
        case "HostConfig.Ulimits":
            return [_ulimit(v, limits) for v in value]
    if isinstance(value, dict) and set(value) == {"limit"}:
        return _number(value["limit"], limits)
    return list(value) if isinstance(value, list) else dict(value) if isinstance(value, dict) else value


def _number(name: str, limits: dict[str, Any]) -> int:
    """A limit in the engine's unit: bytes for ``*_mb``, billionths of a core for ``cpus``."""
    if name.endswith("_mb"):
        return int(limits[name] * MIB)
    return int(limits[name] * 1_000_000_000) if name == "cpus" else int(limits[name])


def _tmpfs(limits: dict[str, Any]) -> str:
    exec_ = "exec" if limits["tmp_exec"] else "noexec"
    return f"rw,nosuid,nodev,{exec_},size={_number('tmp_mb', limits)},mode=1777"


def _ulimit(item: dict[str, Any], limits: dict[str, Any]) -> dict[str, Any]:
    number = _number(item["limit"], limits) if "limit" in item else item["value"]
    return {"Name": item["name"], "Soft": number, "Hard": number}


def check_spec(profile: Profile, spec: SandboxSpec, image: ImageFacts) -> None:
    if not _IMAGE_ID.fullmatch(spec.image_id):
        raise SpecRefused(
            f"image {spec.image_id!r} is not an image ID",
            remedy="verify the image and pass the sha256:... ID that was verified; tags are never trusted twice",
        )
    if not _SERVER.fullmatch(spec.server):
        raise SpecRefused(f"server name {spec.server!r} cannot name a container", remedy="use letters, digits, . _ -")
    if spec.user and spec.user != image_user(spec.user):
        raise SpecRefused(
            f"user {spec.user!r} is root, a name or lacks a group", remedy="give numbers above 0, as in 1000:1000"
        )
    runtime = spec.runtime or spec.access.runtime
    if runtime not in RUNTIMES:
        raise SpecRefused(f"runtime {runtime!r} is not known", remedy=f"one of {', '.join(sorted(RUNTIMES - {''}))}")
    if spec.network_of and not _CONTAINER_ID.fullmatch(spec.network_of):
        raise SpecRefused(f"{spec.network_of!r} is not a container ID", remedy="pass the ID of a relay")
    spec.access.check()
    _check_limits(profile, spec)
    _check_text(spec)
    _check_volumes(image)
    if spec.secret_files:
        secretfiles.check(spec, image)


def _check_limits(profile: Profile, spec: SandboxSpec) -> None:
    for name, value in spec.limits.items():
        limit = profile.limits.get(name)
        if limit is None:
            raise SpecRefused(f"there is no limit {name!r}", remedy=f"one of {', '.join(sorted(profile.limits))}")
        switch = isinstance(limit.default, bool)
        if isinstance(value, bool) != switch or not isinstance(value, int | float):
            raise SpecRefused(f"limit {name} takes {'true or false' if switch else 'a number'}, not {value!r}")
        if limit.least is not None and limit.most is not None and not limit.least <= value <= limit.most:
            raise SpecRefused(f"limit {name}={value} is outside {limit.least:g}..{limit.most:g}")
    limits = effective_limits(profile, spec)
    if limits["tmp_mb"] > limits["memory_mb"]:
        raise SpecRefused("tmp_mb is more than memory_mb", remedy="its pages count as memory: raise memory_mb too")


def _check_text(spec: SandboxSpec) -> None:
    for name, value in spec.env.items():
        if not _ENV_NAME.fullmatch(name) or "\0" in value or len(value.encode()) > MAX_ENV_BYTES:
            raise SpecRefused(f"environment variable {name!r} has an impossible name or value")
    if any("\0" in part or len(part.encode()) > MAX_ENV_BYTES for part in spec.command):
        raise SpecRefused("an argument of the command is too long or holds a NUL byte")


def _check_volumes(image: ImageFacts) -> None:
    if len(image.volumes) > MAX_IMAGE_VOLUMES:
        raise SpecRefused(f"the image declares {len(image.volumes)} volumes; at most {MAX_IMAGE_VOLUMES} are replaced")
    for path in image.volumes:
        if (
            not path.startswith("/")
            or ":" in path
            or ".." in path.split("/")
            or path.rstrip("/") in {"", "/proc", "/sys", "/dev"}
        ):
            raise SpecRefused(f"the image declares a volume at {path!r}", remedy="build it without that VOLUME")
