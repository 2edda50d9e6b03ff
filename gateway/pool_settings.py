"""The pool's limits, as the settings say."""

from __future__ import annotations

import os
from typing import Any, Final

from gateway.pool_places import Caps
from harbourmaster.core.settings import Settings

LEAST_MB: Final = 512
SHARE: Final = 4  # of the machine's memory, when no setting says how much: one part in four


def pool_settings(settings: Settings) -> dict[str, Any]:
    """What ``Leases`` takes."""
    caps = Caps(
        total=settings.max_sandboxes,
        per_server=settings.max_sandboxes_per_server,
        queue=settings.sandbox_queue,
        wait_s=settings.sandbox_wait_s,
    )
    return {
        "caps": caps,
        "budget_mb": float(settings.pool_memory_mb or machine_mb() // SHARE),
        "spares": settings.pool_spares,
        "idle_s": settings.sandbox_idle_s,
        "start_timeout_s": settings.start_timeout_s,
    }


def machine_mb() -> int:
    return max(LEAST_MB * SHARE, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20)
