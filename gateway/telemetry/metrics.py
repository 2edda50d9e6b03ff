"""Numbers for Prometheus, in its text format 0.0.4.  Pure.

Counted from the audit's records, so that metrics and audit cannot disagree.  Labels are names of locked servers, methods,
outcomes and codes: sets that nobody outside can make grow.  No caller, tool, argument or session is in them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"
BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_MOST: Final = 10_000  # label sets of one family; what is over is counted under none

Labels = tuple[str, ...]
Family = tuple[str, str, str, Iterable[tuple[Mapping[str, str], float]]]  # name, type, help, samples


class Metrics:
    """``recorded`` is called for every record and costs two dictionary look-ups."""

    def __init__(self) -> None:
        self.calls: Counter[Labels] = Counter()
        self.codes: Counter[str] = Counter()
        self.findings: Counter[Labels] = Counter()
        self.refusals: Counter[str] = Counter()  # at the HTTP edge, by code
        self.events: Counter[Labels] = Counter()
        self._durations: dict[Labels, list[float]] = {}

    def recorded(self, record: dict[str, Any]) -> None:
        if record["kind"] == "call":
            self._call(record)
        else:
            self.events[str(record["kind"]), str(record.get("event", record.get("verdict", "")))] += 1

    def _call(self, record: dict[str, Any]) -> None:
        server, method = record["server"], record["method"]
        self.calls[server, method, record["outcome"]] += 1
        known = self._durations.get((server, method))
        if known is None:
            if len(self._durations) >= _MOST:
                return
            known = self._durations[server, method] = [0.0] * (len(BUCKETS) + 2)
        seconds = record["duration_ms"] / 1000
        known[bisect_left(BUCKETS, seconds)] += 1
        known[-1] += seconds
        if "code" in record:
            self.codes[record["code"]] += 1
        if "notes" in record:
            self.findings.update((note.partition(":")[0], note.partition(":")[2]) for note in record["notes"])

    def text(self, gauges: Iterable[Family] = ()) -> bytes:
        """The exposition; ``gauges``: what is looked up at the moment of asking."""
        lines: list[str] = []
        for name, kind, told, samples in (*self._counters(), *gauges):
            lines += [f"# HELP {name} {told}", f"# TYPE {name} {kind}"]
            lines += [_sample(name, labels, value) for labels, value in samples]
        lines += self._histogram("harbourmaster_call_duration_seconds", "How long calls took, with everything.")
        return ("\n".join(lines) + "\n").encode()

    def _counters(self) -> list[Family]:
        names = ("server", "method", "outcome")
        calls = [(dict(zip(names, key, strict=True)), n) for key, n in sorted(self.calls.items())]
        codes = [({"code": key}, n) for key, n in sorted(self.codes.items())]
        found = [({"kind": kind, "what": what}, n) for (kind, what), n in sorted(self.findings.items())]
        refused = [({"code": key}, n) for key, n in sorted(self.refusals.items())]
        events = [({"kind": kind, "event": event}, n) for (kind, event), n in sorted(self.events.items())]
        return [
            ("harbourmaster_calls_total", "counter", "Calls by how they ended.", calls),
            ("harbourmaster_failures_total", "counter", "Calls that failed or were refused, by code.", codes),
            ("harbourmaster_findings_total", "counter", "What interceptors found in calls and answers.", found),
            ("harbourmaster_http_refusals_total", "counter", "Requests that were no calls yet, by code.", refused),
            ("harbourmaster_events_total", "counter", "Other audit records of the gateway.", events),
        ]

    def _histogram(self, name: str, told: str) -> list[str]:
        lines = [f"# HELP {name} {told}", f"# TYPE {name} histogram"]
        for (server, method), counts in sorted(self._durations.items()):
            labels, total = {"server": server, "method": method}, 0.0
            for bound, count in zip((*map(str, BUCKETS), "+Inf"), counts, strict=False):
                total += count
                lines.append(_sample(f"{name}_bucket", {**labels, "le": bound}, total))
            lines.append(_sample(f"{name}_sum", labels, counts[-1]))
            lines.append(_sample(f"{name}_count", labels, total))
        return lines


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    inside = ",".join(f'{key}="{_escaped(each)}"' for key, each in labels.items())
    shown = repr(round(value, 6)) if value != int(value) else str(int(value))
    return f"{name}{{{inside}}} {shown}" if inside else f"{name} {shown}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
