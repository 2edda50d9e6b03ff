"""What a secret is called, what its value may be, and where it may come from.  Pure."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Literal

from harbourmaster.core.secrets.errors import SecretInvalid

MAX_VALUE_BYTES = (
    64 * 1024
)  # a key chain in PEM is a few KiB; one environment variable may hold 128 KiB (linux/binfmts.h)

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")  # as in server.yaml, config.secrets.name: it becomes a file's name
SERVER = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_ENV = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")

Kind = Literal["keyring", "age", "env", "file", "cmd"]
STORED: tuple[Kind, ...] = ("keyring", "age")  # we hold the value; the other kinds are read where it lives


@dataclass(frozen=True, order=True)
class SecretId:
    """A secret belongs to one server: another that declares the same name gets nothing.  Raises ``SecretInvalid``."""

    server: str
    name: str

    def __post_init__(self) -> None:
        if not SERVER.fullmatch(self.server) or len(self.server) > 64:
            raise SecretInvalid(
                "that cannot be a server's name",
                remedy="lower-case letters, digits and single dashes; see: hm server ls",
            )
        if not NAME.fullmatch(self.name):
            raise SecretInvalid(
                "that cannot be a secret's name", remedy="lower-case letters, digits, dots, dashes: hm secret set NAME"
            )

    def __str__(self) -> str:
        return f"{self.server}/{self.name}"

    @property
    def set_command(self) -> str:
        """What a person types to set it."""
        return f"hm secret set {self.name} --server {self.server}"


@dataclass(frozen=True)
class Source:
    """Where a value is.  ``words``: nothing when stored, else the variable, the path, or the program and its arguments."""

    kind: Kind
    words: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.kind if self.kind in STORED else f"{self.kind}:{shlex.join(self.words)}"


def parse_source(text: str) -> Source:
    """``env:NAME``, ``file:/path`` or ``cmd:program arguments``.  Raises ``SecretInvalid``."""
    kind, _, rest = text.partition(":")
    match kind:
        case "env" if _ENV.fullmatch(rest):
            return Source("env", (rest,))
        case "file" if rest.startswith("/") and "\0" not in rest:
            return Source("file", (rest,))
        case "cmd":
            return Source("cmd", _words(rest))
    raise SecretInvalid(
        "that is no source of secrets", remedy="env:NAME, file:/absolute/path or 'cmd:op read op://vault/item/field'"
    )


def _words(command: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(command))
    except ValueError as e:
        raise SecretInvalid(f"the command after cmd: cannot be split into words: {e}", remedy="mind the quotes") from e
    if not words or any("\0" in word for word in words):
        raise SecretInvalid("no command after cmd:", remedy="as in 'cmd:op read op://vault/item/field'")
    return words


def checked_value(value: str) -> str:
    """``value`` as it is.  Raises ``SecretInvalid`` for what no variable and no line of ours could carry."""
    try:
        size = len(value.encode())
    except UnicodeEncodeError as e:
        raise SecretInvalid("the value is not text in UTF-8", remedy="encode binary values, in base64 say") from e
    if not value or "\0" in value:
        raise SecretInvalid("the value is empty or holds a NUL byte", remedy="encode binary values, in base64 say")
    if size > MAX_VALUE_BYTES:
        raise SecretInvalid(f"the value has {size} bytes; at most {MAX_VALUE_BYTES} are kept", remedy="shorten it")
    return value


def without_newline(text: str) -> str:
    """``text`` without the one newline that ``echo``, editors and programs put at the end."""
    return text.removesuffix("\n").removesuffix("\r")
