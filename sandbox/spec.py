"""What a caller says about one sandbox, and what the image says about itself.  Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sandbox.access import Access

LABEL_HOSTS = "harbourmaster.hosts"
NOBODY = "65532:65532"  # the "nonroot" user that distroless images made customary


@dataclass(frozen=True)
class SandboxSpec:
    """One sandbox.

    ``image_id``: ``sha256:<64 hex>`` as the engine names it, never a tag.  ``image``: the manifest digest it was verified
    as (a label).  ``command``: arguments that take the place of the image's own CMD; its ENTRYPOINT stays.  ``user``:
    numeric ``uid[:gid]``; empty: the image's when that is numeric and not root, else 65532.  ``limits``: overrides of the
    profile's limits by name.  ``runtime``: ``runsc``, ``kata`` ...; empty: the engine's default.  ``secret_env``: names in
    ``env`` whose values must never show in what the server says on stderr.  ``network_of``: ID of the relay's container,
    whose empty network name space the sandbox joins; empty: one of its own.  ``access``: what an entry asked for beyond
    numbers, and people agreed to.  ``one_shot``: a program, not a server: it is told nothing, and all that it prints is
    its answer, a last line without an end too.
    """

    server: str
    image_id: str
    image: str = ""
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    user: str = ""
    limits: Mapping[str, int | float | bool] = field(default_factory=dict)
    runtime: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    secret_env: frozenset[str] = frozenset()
    secret_files: Mapping[str, str] = field(default_factory=dict, repr=False)
    network_of: str = ""
    access: Access = field(default_factory=Access)
    one_shot: bool = False

    @property
    def is_told(self) -> bool:
        """Whether anything is written to its stdin."""
        return not self.one_shot or bool(self.secret_files)


@dataclass(frozen=True)
class ImageFacts:
    """What the image's own configuration says.

    ``volumes`` would be writable and unbounded, so they become tmpfs.  ``has_hosts``: the image carries the label
    ``harbourmaster.hosts`` because its C library knows localhost by itself, so the engine need not make a hosts file.  ``entrypoint`` and
    ``command`` are what would run.
    """

    user: str = ""
    volumes: tuple[str, ...] = ()
    has_hosts: bool = False
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


def image_user(user: str) -> str:
    """``uid:gid`` for what an image's USER says: root, names and nothing become 65532.

    A name proves nothing: the image's own /etc/passwd may map any name to 0.  Without a group the engine would take group
    0, so the uid stands in for it.
    """
    uid, _, gid = user.partition(":")
    if not _positive(uid):
        return NOBODY
    return f"{int(uid)}:{int(gid) if _positive(gid) else int(uid)}"


def _positive(number: str) -> bool:
    return number.isascii() and number.isdigit() and 0 < int(number) < 2**31
