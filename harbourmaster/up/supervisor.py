"""Keeps the processes of `hm up` running: starts them, restarts what dies, ends them in order.

    python -m harbourmaster.up.supervisor [service to leave out ...]      (what `hm up --detach` starts; `hm up` runs the same in the foreground)

Restarts back off from half a second to half a minute and start over once a process has lived for a minute.
"""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import FrameType

from harbourmaster.core import logs
from harbourmaster.core.alive import start_time
from harbourmaster.core.files import make_private_dir
from harbourmaster.core.running import url_of
from harbourmaster.core.settings import PROJECT_ROOT, Settings
from harbourmaster.up.processes import Service, services
from harbourmaster.up.state import ProcessState, RunState, clear_state, current_process, write_state

FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
STABLE_AFTER_S = 60.0
STOP_GRACE_S = 15.0
PR_SET_PDEATHSIG = 1  # linux/prctl.h

log = logging.getLogger("harbourmaster.supervisor")


def backoff_after(previous_s: float, lived_s: float) -> float:
    """Seconds to wait before the next start of a process that lived ``lived_s`` after waiting ``previous_s``."""
    if lived_s >= STABLE_AFTER_S or previous_s == 0:
        return FIRST_BACKOFF_S
    return min(previous_s * 2, MAX_BACKOFF_S)


def gateway_url(settings: Settings) -> str:
    """Where it is configured to be; where it is says ``core.running``."""
    return url_of(settings.gateway_host, settings.gateway_port)


def _end_with_parent() -> None:
    """In the child, before exec: the kernel sends it SIGTERM when the supervisor dies, however that happens (prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Child:
    """One supervised process and its log file."""

    def __init__(self, service: Service, log_file: Path) -> None:
        self.name = service.name
        self.command = service.command
        self.once = service.once
        self.log_file = log_file
        self.done = False
        self.process: subprocess.Popen[bytes] | None = None
        self.born = 0.0
        self.wait_s = 0.0
        self.not_before = 0.0

    def start(self) -> None:
        with self.log_file.open("ab") as out:
            # A session of its own: a Ctrl-C at the terminal is ours to hear, and to pass on in order.
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=PROJECT_ROOT,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        self.born = time.monotonic()

    def tend(self, now: float) -> bool:
        """Note a death and start again when due; True when the state changed."""
        if self.done or (self.process is not None and self.process.poll() is None):
            return False
        if self.process is not None and self.once:
            log.info("%s ended with status %s", self.name, self.process.returncode)
            self.done = True
            return True
        if self.process is not None:
            self.wait_s = backoff_after(self.wait_s, now - self.born)
            self.not_before = now + self.wait_s
            log.warning(
                "%s ended with status %s; starting again in %.1f s", self.name, self.process.returncode, self.wait_s
            )
            self.process = None
            return True
        if now < self.not_before:
            return False
        self.start()
        return True

    def state(self) -> ProcessState | None:
        if self.done or self.process is None or (started := start_time(self.process.pid)) is None:
            return None
        return ProcessState(self.process.pid, started)

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        # A job's helpers (a compiler) end with it; a service ends its own, in order.
        os.killpg(self.process.pid, signal.SIGTERM) if self.once else self.process.terminate()
        try:
            self.process.wait(STOP_GRACE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Supervisor:
    def __init__(self, settings: Settings, to_run: Sequence[Service]) -> None:
        self.settings = settings
        make_private_dir(settings.log_dir)
        self.services = {service.name: service for service in to_run}
        self.children = [Child(service, settings.log_dir / f"{service.name}.log") for service in to_run]
        self.me = current_process()
        self.since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self._woken = threading.Event()
        self._ending = False

    def run(self, published: Callable[[], None] = lambda: None) -> None:
        """Supervise until SIGTERM, SIGINT or SIGHUP.  ``published``: called each time that it is written down what runs."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, self._on_signal)
        try:
            while not self._ending:
                now = time.monotonic()
                if any([child.tend(now) for child in self.children]):
                    self._publish()
                    published()
                self._woken.wait(timeout=0.5)  # SIGCHLD wakes it at once; the timeout serves the back-off
                self._woken.clear()
        finally:
            for child in reversed(self.children):
                child.stop()
            clear_state(self.settings.run_dir)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self._ending = True
        self._woken.set()

    def _publish(self) -> None:
        processes = {child.name: state for child in self.children if (state := child.state())}
        addresses = {name: self.services[name].address for name in processes if self.services[name].port}
        write_state(
            self.settings.run_dir, RunState(self.me, gateway_url(self.settings), self.since, processes, addresses)
        )


def spawn_detached(settings: Settings, left_out: Iterable[str] = ()) -> subprocess.Popen[bytes]:
    """Start the supervisor in its own session, so that it outlives the terminal.  ``left_out``: names of services."""
    make_private_dir(settings.log_dir)
    with (settings.log_dir / "supervisor.log").open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "harbourmaster.up.supervisor", *left_out],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            cwd=PROJECT_ROOT,
            env={**os.environ, "HM_HOME": str(settings.home)},
        )


def main() -> None:
    settings = Settings.load()
    logs.configure(settings.log_level)
    with contextlib.suppress(KeyboardInterrupt):
        Supervisor(settings, [s for s in services(settings) if s.name not in sys.argv[1:]]).run()


if __name__ == "__main__":
    main()
