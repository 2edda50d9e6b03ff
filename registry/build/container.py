"""One builder container: inputs arrive as a tar on standard input, the result leaves as a tar on standard output.

It is as locked down as an install can be: user 65532, no capabilities, no-new-privileges, read-only root, scratch in
memory; only the network is open, and only where a job needs it.  Nothing of it survives but the bytes it wrote.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import docker
from docker.errors import APIError, NotFound
from docker.types import LogConfig

from registry.build.errors import BuildFailed
from registry.build.underway import BUILDS
from registry.build.words import CONNECT, OFFLINE

BUILD_LABELS = {"harbourmaster.build": "1"}
BUILD_USER = "65532:65532"
TMPFS_BYTES = 3 << 30  # only what is written is used; a large node_modules is 500 MB
MEMORY_BYTES = 4 << 30
PIDS = 512
LOG_LINES = 40
LOG_LINE_CHARACTERS = 400
MAX_OUTPUT_BYTES = 4 << 30
STALE_S = 600.0  # a builder is removed seconds after it ends, unless its build was killed
DEADLINE_S = 1200.0  # silence of the engine, not the length of a build

_HEADER = struct.Struct(">BxxxL")  # Docker API, "attach to a container", stream format
_STDOUT = 1
_CREDENTIALS = re.compile(r"(https?://)[^/@\s]+@")

Log = Callable[[str], None]


class LogTail:
    """The last lines of a build's log, for error messages; addresses lose their credentials."""

    def __init__(self, on_line: Log | None = None) -> None:
        self._lines: deque[str] = deque(maxlen=LOG_LINES)
        self._partial = ""
        self._on_line = on_line

    def feed(self, data: bytes) -> None:
        *lines, self._partial = re.split(r"[\r\n]+", self._partial + data.decode("utf-8", "replace"))
        self._partial = self._partial[-LOG_LINE_CHARACTERS:]
        for line in filter(str.strip, lines):
            clean = printable(_CREDENTIALS.sub(r"\1***@", line))[:LOG_LINE_CHARACTERS]
            self._lines.append(clean)
            if self._on_line:
                self._on_line(clean)

    def text(self) -> str:
        return "\n".join([*self._lines, printable(self._partial)]).strip()


def printable(text: str) -> str:
    """``text`` with control characters made visible: a package's log must not drive a terminal."""
    return "".join(c if c.isprintable() or c == "\t" else f"\\x{ord(c):02x}" for c in text)


@dataclass(frozen=True)
class Job:
    step: str  # what people read: "install Python packages"
    image_id: str
    script: str  # for /bin/sh -eu
    stdin: bytes = b""
    network: bool = True


def run_job(client: docker.DockerClient, job: Job, output: BinaryIO, log: LogTail) -> None:
    """Run ``job``, its standard output into ``output``; raises ``BuildFailed`` with the log's end."""
    api: Any = client.api
    try:
        container = api.create_container_from_config(_config(api, job))["Id"]
    except APIError as e:
        raise BuildFailed(
            f"{job.step}: the engine refused the builder: {e.explanation}", remedy="run: hm doctor"
        ) from e
    try:
        with BUILDS.held(lambda: remove_builder(api, container)):
            with _attached(api, container) as sock:
                api.start(container)
                feeder = threading.Thread(target=_feed, args=(sock, job.stdin), daemon=True)
                feeder.start()
                _drain(sock, output, log)
                feeder.join()
            status = api.wait(container)["StatusCode"]
    except (APIError, OSError) as e:
        raise BuildFailed(f"{job.step}: the engine broke off: {e}", remedy="run: hm doctor", log=log.text()) from e
    finally:
        remove_builder(api, container)
    if status != 0:
        raise failed(job.step, status, log)


def remove_builder(api: Any, container: str) -> None:
    """A builder that is gone already is what was wanted."""
    with contextlib.suppress(NotFound, APIError):
        api.remove_container(container, force=True, v=True)


def sweep(
    client: docker.DockerClient, labels: Mapping[str, str] = BUILD_LABELS, *, older_than_s: float = STALE_S
) -> int:
    """Remove ended builder containers that a killed build left behind; returns how many."""
    api: Any = client.api
    filters = {"label": [f"{k}={v}" for k, v in labels.items()], "status": ["created", "exited", "dead"]}
    removed = 0
    for found in api.containers(all=True, filters=filters):
        if time.time() - found["Created"] >= older_than_s:
            with contextlib.suppress(NotFound, APIError):
                api.remove_container(found["Id"], force=True, v=True)
                removed += 1
    return removed


def failed(step: str, status: int, log: LogTail) -> BuildFailed:
    hint = "out of memory: give the engine more" if status == 137 else "see the log's end above; run: hm doctor"
    if OFFLINE.search(log.text()):
        hint = CONNECT
    return BuildFailed(f"{step} ended with status {status}:\n{log.text()}", remedy=hint, step=step, status=status)


def _config(api: Any, job: Job) -> dict[str, Any]:
    scratch = f"rw,nosuid,nodev,exec,size={TMPFS_BYTES},mode=1777"
    host = api.create_host_config(
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges:true"],
        tmpfs={"/tmp": scratch, "/opt/server": scratch, "/opt/base": scratch},  # noqa: S108 - inside the container
        network_mode="bridge" if job.network else "none",
        pids_limit=PIDS,
        mem_limit=MEMORY_BYTES,
        init=True,
        log_config=LogConfig(type="none"),  # the result must not also land in the engine's log
    )
    config: dict[str, Any] = api.create_container_config(
        job.image_id,
        command=["/bin/sh", "-euc", job.script],
        user=BUILD_USER,
        stdin_open=True,
        tty=False,
        environment={"HOME": "/tmp", "LC_ALL": "C.UTF-8", "TZ": "UTC"},  # noqa: S108
        working_dir="/tmp",  # noqa: S108
        labels=BUILD_LABELS,
        host_config=host,
    )
    config["Entrypoint"] = []
    config["StdinOnce"] = True
    return config


@contextlib.contextmanager
def _attached(api: Any, container: str) -> Iterator[socket.socket]:
    raw = api.attach_socket(container, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
    sock: socket.socket = getattr(raw, "_sock", raw)
    sock.settimeout(DEADLINE_S)
    try:
        yield sock
    finally:
        getattr(raw, "_response", raw).close()  # the SDK keeps the HTTP response there, and that holds the socket too
        sock.close()


def _feed(sock: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):  # the job died: its status and log tell why
        sock.sendall(data)
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)


def _drain(sock: socket.socket, output: BinaryIO, log: LogTail) -> None:
    written = 0
    with sock.makefile("rb", buffering=1 << 18) as stream:
        while len(header := stream.read(_HEADER.size)) == _HEADER.size:
            kind, length = _HEADER.unpack(header)
            while length:
                data = stream.read(min(length, 1 << 20))
                if not data:
                    return
                length -= len(data)
                if kind != _STDOUT:
                    log.feed(data)
                    continue
                written += len(data)
                if written > MAX_OUTPUT_BYTES:
                    raise BuildFailed(f"a build wrote more than {MAX_OUTPUT_BYTES} bytes", remedy="use another source")
                output.write(data)
