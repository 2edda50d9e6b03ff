"""``python -m runner.engine.bound PARENT COMMAND...``: becomes COMMAND, bound to the life of its parent.

For programs that are not ours and would outlive a runner that was killed.  The bond is Linux's (``prctl(2)``); elsewhere such a
program ends only when the runner ends it.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

_PDEATHSIG, _NO_NEW_PRIVS = 1, 38  # linux/prctl.h


def main() -> None:
    parent, *command = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit(1)  # it ended before the bond was made
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main()
