"""Layers as deterministic tars: sorted names, one time stamp, no set-id bits, no devices.

The same tree gives the same bytes on every machine, so that a layer's digest says what is in it and nothing else.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

from registry.build.errors import LayerRefused

SOURCE_DATE_EPOCH = 1767225600  # 2026-01-01T00:00:00Z: the one time stamp of everything that we make
MAX_MEMBERS = 400_000  # a Debian base has about 3,000; a large node_modules 60,000

Keep = Callable[[str], bool]
Rename = Callable[[str], str]


def everything(name: str) -> bool:
    return True


def unchanged(name: str) -> str:
    return name


@dataclass(frozen=True)
class Rules:
    """What to take from a tar, and how.

    ``owners``: keep owners and modes as they are (Debian's own files), less the set-id bits; else all is root's, 0644 or 0755.
    """

    keep: Keep = everything
    rename: Rename = unchanged
    owners: bool = False


def normalise(source: BinaryIO, sink: BinaryIO, rules: Rules | None = None) -> int:
    """Write ``source`` (a seekable tar) to ``sink`` as a layer; returns the number of entries.

    Raises ``LayerRefused`` for devices, pipes and names that leave the root.
    """
    rules = rules or Rules()
    try:
        with tarfile.open(fileobj=source, mode="r:") as tar:
            members = _select(tar, rules)
            names = _hard_link_heads(members)
            with tarfile.open(fileobj=sink, mode="w|", format=tarfile.GNU_FORMAT, encoding="utf-8") as out:
                for name in sorted(members):
                    _write(tar, out, name, members, names, rules)
    except (tarfile.TarError, KeyError, RecursionError) as e:  # the latter two: links that lead nowhere
        raise LayerRefused(f"a build step's result is not a tar: {e}", remedy="build it again") from e
    return len(members)


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """A small deterministic tar of regular files (0644)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as out:
        for name in sorted(files):
            out.addfile(_plain(name, len(files[name])), io.BytesIO(files[name]))
    return buffer.getvalue()


def under(prefixes: Iterable[str]) -> Keep:
    """True for names at or below one of ``prefixes``, and for the directories above them."""
    wanted = tuple(prefixes)

    def keep(name: str) -> bool:
        return any(name == p or name.startswith(p + "/") or p.startswith(name + "/") for p in wanted)

    return keep


def clean_name(name: str) -> str:
    """The name without ``./`` and trailing slash; ``""`` for the root itself."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise LayerRefused(f"a layer names {name!r}, which leaves its root", remedy="do not use this source")
    text = str(path)
    return "" if text == "." else text


def _plain(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, SOURCE_DATE_EPOCH, 0o644
    return info


def _select(tar: tarfile.TarFile, rules: Rules) -> dict[str, tarfile.TarInfo]:
    chosen: dict[str, tarfile.TarInfo] = {}
    for count, member in enumerate(tar):
        if count >= MAX_MEMBERS:
            raise LayerRefused(f"a layer has more than {MAX_MEMBERS} entries", remedy="do not use this source")
        name = clean_name(member.name)
        if not name or not rules.keep(name):
            continue
        if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
            raise LayerRefused(f"{name} is a device or a pipe", remedy="no image of ours holds one: use another source")
        chosen[rules.rename(name)] = member
    return chosen


def _hard_link_heads(members: dict[str, tarfile.TarInfo]) -> dict[str, str]:
    """For each file that has other names in the layer: which of its names carries the bytes (the first in order)."""
    by_source = {clean_name(m.name): name for name, m in members.items()}
    groups: dict[str, list[str]] = {}
    for name, member in members.items():
        if member.islnk():
            target = clean_name(member.linkname)
            if target not in by_source:
                raise LayerRefused(f"{name} is a hard link to {target}, which the layer lacks", remedy="build it again")
            groups.setdefault(by_source[target], [by_source[target]]).append(name)
    return {name: min(group) for group in groups.values() for name in group}


def _write(
    tar: tarfile.TarFile,
    out: tarfile.TarFile,
    name: str,
    members: dict[str, tarfile.TarInfo],
    heads: dict[str, str],
    rules: Rules,
) -> None:
    member = members[name]
    info = _header(name, member, rules)
    head = heads.get(name, name)
    if head != name:
        info.type, info.linkname = tarfile.LNKTYPE, head
        out.addfile(info)
        return
    if member.isreg() or member.islnk():
        data = tar.extractfile(member)  # follows a hard link to the bytes
        assert data is not None
        info.type, info.size = tarfile.REGTYPE, data.seek(0, io.SEEK_END)
        data.seek(0)
        out.addfile(info, data)
        return
    out.addfile(info)


def _header(name: str, member: tarfile.TarInfo, rules: Rules) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mtime = member.type, SOURCE_DATE_EPOCH
    if member.issym():
        info.linkname, info.mode = member.linkname, 0o777
        return info
    if rules.owners:
        info.uid, info.gid, info.mode = member.uid, member.gid, member.mode & 0o1777
    else:
        info.mode = 0o755 if member.isdir() or member.mode & 0o111 else 0o644
    return info
