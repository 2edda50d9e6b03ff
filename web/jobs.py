"""Work that takes minutes, done one after the other in the background: pages show how far it is."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from harbourmaster.core.errors import HarbourError
from web.errors import Fault

log = logging.getLogger("web.jobs")

Say = Callable[[str], None]
Work = Callable[[Say], None]
KEPT = 200  # servers whose last job is remembered


@dataclass
class Job:
    server: str
    what: str
    state: Literal["waiting", "working", "done", "failed"] = "waiting"
    stage: str = ""
    error: HarbourError | None = None

    @property
    def active(self) -> bool:
        return self.state in ("waiting", "working")


class Jobs:
    """Thread safe.  A job that goes on when the process ends is begun anew by whoever asks for it: nothing is half-kept."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._lock, self._turn = threading.Lock(), threading.Lock()

    def of(self, server: str) -> Job | None:
        return self._jobs.get(server)

    def start(self, server: str, what: str, work: Work) -> Job:
        """The job of ``server`` that goes on, else a new one."""
        with self._lock:
            known = self._jobs.get(server)
            if known is not None and known.active:
                return known
            job = Job(server, what)
            self._jobs.pop(server, None)
            self._jobs = dict(list(self._jobs.items())[-KEPT:]) | {server: job}
        threading.Thread(target=self._run, args=(job, work), name=f"job-{server}", daemon=True).start()
        return job

    def _run(self, job: Job, work: Work) -> None:
        def say(line: str) -> None:
            job.stage = line.strip() or job.stage

        with self._turn:
            job.state = "working"
            try:
                work(say)
            except HarbourError as e:
                job.error, job.state = e, "failed"
            except Exception as e:  # the page must say that it ended; the log says how
                log.error("a fault while doing %s of %s", job.what, job.server, exc_info=e)
                job.error, job.state = (
                    Fault(f"a fault of the console: {type(e).__name__}", remedy="see its log"),
                    "failed",
                )
            else:
                job.state = "done"
