"""What this process leaves behind when it dies: no memory, and no value in its last words."""

from __future__ import annotations

import contextlib
import functools
import resource
import sys
import traceback
from pathlib import Path
from types import TracebackType

from harbourmaster.core.redaction import IN_USE

CORE_FILTER = Path("/proc/self/coredump_filter")  # core(5): which mappings a dump holds; a crash collector obeys it too


@functools.cache
def keep_no_traces() -> None:
    """No core dump of this process and those it starts, and tracebacks without values in use.  Once per process."""
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))
    with contextlib.suppress(OSError):  # systems without it have no collector that ignores the limit
        CORE_FILTER.write_text("0")
    sys.excepthook = _last_words


def _last_words(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(IN_USE.redact("".join(traceback.format_exception(kind, error, trace))))
