"""Secrets as files in a sandbox's memory: ``/run/secrets/<name>``, a tmpfs that only the server's user may enter.

No engine call can put a file into a tmpfs (``PUT /containers/{id}/archive`` writes below it, and refuses a read-only
root), and a bind mount would need a host that the engine shares.  So the image's own ``/bin/sh`` runs first: it reads the
files from stdin, which is our attach connection, writes them, and becomes the server by ``exec``.  The values are in no
argument, no variable and no answer of ``docker inspect``, and they are there before the server's first instruction.

On the wire, per file: a line with its name, a line with its value in the form of ``printf %b``; then an empty line.  A
POSIX shell's ``read`` takes a pipe byte by byte, so what follows is the server's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from sandbox.errors import SpecRefused
from sandbox.spec import ImageFacts, SandboxSpec

PLACE = "/run/secrets"
SIZE = 1024 * 1024  # bytes of the tmpfs
MAX_BYTES = 512 * 1024  # of all values of one sandbox: half, because tmpfs counts in pages
SHELL = "/bin/sh"
CUT_SHORT = 78  # status of a shell that did not get everything (EX_CONFIG, sysexits.h)

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
_SPECIAL = re.compile(r"[\\\x00-\x1f\x7f]")

# HM_N and HM_V are unset, because an image that exports variables of these names would pass the last value on.
SCRIPT = f"""while IFS= read -r HM_N; do
[ -n "$HM_N" ] || {{ unset HM_N HM_V; exec "$@"; }}
IFS= read -r HM_V && (umask 377; printf %b "$HM_V" >{PLACE}/"$HM_N") || exit {CUT_SHORT}
done
exit {CUT_SHORT}"""


def preamble(files: Mapping[str, str]) -> bytes:
    """What stdin carries before the first message; nothing when there are no files."""
    if not files:
        return b""
    lines = [part for name, value in sorted(files.items()) for part in (name, _SPECIAL.sub(_octal, value))]
    return "\n".join([*lines, "", ""]).encode()


def _octal(match: re.Match[str]) -> str:
    return f"\\0{ord(match[0]):03o}"  # printf %b, POSIX.1-2017


def wrapped(spec: SandboxSpec, image: ImageFacts) -> dict[str, list[str]]:
    """Entrypoint and Cmd that write the files and become what would have run."""
    command = list(image.entrypoint) + list(spec.command or image.command)
    return {"Entrypoint": [SHELL, "-c", SCRIPT, "secrets"], "Cmd": command}


def mount(user: str) -> dict[str, str]:
    """The tmpfs, for ``HostConfig.Tmpfs``; ``user`` is ``uid:gid``."""
    uid, _, gid = user.partition(":")
    return {PLACE: f"rw,nosuid,nodev,noexec,size={SIZE},mode=700,uid={uid},gid={gid or uid}"}


def explain(status: int | None, stderr: str) -> str:
    """Why the server never ran, if that is because of its files; ``""`` otherwise."""
    if status == CUT_SHORT:
        return f"its secrets could not be written to {PLACE}"
    if status in (126, 127) and f"exec {SHELL} failed" in stderr:  # the words of docker-init, which is tini
        return f"its image has no {SHELL}, which secrets given as files need; write `as: env` in the entry"
    return ""


def check(spec: SandboxSpec, image: ImageFacts) -> None:
    """Raises ``SpecRefused``."""
    if not all(_NAME.fullmatch(name) for name in spec.secret_files):
        raise SpecRefused("a secret file has an impossible name", remedy="lower-case letters, digits, dots and dashes")
    if any("\0" in value for value in spec.secret_files.values()):
        raise SpecRefused("a secret file holds a NUL byte", remedy="encode binary values, in base64 say")
    if sum(len(value.encode()) for value in spec.secret_files.values()) > MAX_BYTES:
        raise SpecRefused(f"the secret files hold more than {MAX_BYTES} bytes", remedy="give the server fewer")
    if any(volume == PLACE or volume.startswith(f"{PLACE}/") for volume in image.volumes):
        raise SpecRefused(f"the image declares a volume at {PLACE}", remedy="build it without, or write: as: env")
    if not image.entrypoint and not spec.command and not image.command:
        raise SpecRefused("the image names no command", remedy="name one in the entry: run.command")
