"""How fast the audit is: what one append costs its caller, and how many a second reach the disk.

    python benchmarks/audit.py [DIRECTORY]

The directory is on the disk to measure; default: a temporary one.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from harbourmaster.core.audit import AuditLog, verify

RECORDS = 200_000
BURST = 20_000  # well under the queue's bound, so that no append is refused
CALL = {
    "kind": "call",
    "server": "time",
    "tool": "get_current_time",
    "method": "tools/call",
    "principal": "default",
    "session": "0123456789abcdef",
    "outcome": "ok",
    "duration_ms": 1.234,
    "sandbox": "0123456789ab",
}


def main(directory: Path) -> None:
    log = AuditLog(directory / "audit")
    spent = 0.0
    start = time.perf_counter()
    for _ in range(RECORDS // BURST):
        before = time.perf_counter()
        for _ in range(BURST):
            log.append(CALL)
        spent += time.perf_counter() - before
        log.flush()
    total = time.perf_counter() - start
    durable = [_durable(log) for _ in range(200)]
    log.close()
    before = time.perf_counter()
    count = verify(directory / "audit").records
    print(f"append, cost to the caller     {spent / RECORDS * 1e6:8.2f} us")
    print(f"sustained, synced to disk      {RECORDS / total:8.0f} records/s")
    print(f"append_durably, median         {sorted(durable)[100] * 1e3:8.2f} ms")
    print(f"verify                         {count / (time.perf_counter() - before):8.0f} records/s")


def _durable(log: AuditLog) -> float:
    before = time.perf_counter()
    log.append_durably(CALL)
    return time.perf_counter() - before


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as place:
            main(Path(place))
