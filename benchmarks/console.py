"""How long the console takes to answer with a page, with 300 to 10,000 servers in the catalog.

    python -m benchmarks.console [--servers 300,10000] [--requests 60]

One person, one connection, the console as a process of its own; the catalog is ``benchmarks.search``'s. Printed: milliseconds from
request to the last byte of the page, p50 and p99.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2

from benchmarks.search import questions, servers
from catalog import service
from catalog.importer import import_offers
from catalog.store import Store
from harbourmaster.core.settings import Settings
from web.access import console_tokens

READY = re.compile(r"http://127\.0\.0\.1:(\d+)")


def fill(home: Path, count: int) -> list[str]:
    """The catalog; names of some of its servers."""
    store = Store.open(Settings.load(home=home))
    source = service.add_source(store, "synthetic", "published", "generated")
    entries = list(servers(count))
    import_offers(store, source.id or 0, entries, complete=True, now=service.utc_now())
    store.close()
    return [entry.name for entry in entries[:: max(1, count // 20)]]


@contextlib.contextmanager
def console(home: Path) -> Iterator[httpx2.Client]:
    command = [sys.executable, "-m", "harbourmaster", "console", "run", "--port", "0"]
    environment = {**os.environ, "HM_HOME": str(home)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        found = next(m for line in process.stderr if (m := READY.search(line)))
        threading.Thread(target=process.stderr.read, daemon=True).start()
        token = console_tokens(Settings.load(home=home)).default()
        with httpx2.Client(
            base_url=f"http://127.0.0.1:{found[1]}", headers={"authorization": f"Bearer {token}"}, timeout=120
        ) as client:
            yield client
    finally:
        process.terminate()
        process.wait()


def timed(client: httpx2.Client, paths: list[str], requests: int) -> tuple[float, float]:
    times = []
    for number in range(requests):
        path = paths[number % len(paths)]
        start = time.perf_counter()
        answer = client.get(path)
        times.append((time.perf_counter() - start) * 1000)
        assert answer.status_code == 200, (path, answer.status_code)
    times.sort()
    return times[len(times) // 2], times[int(len(times) * 0.99)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", default="300,10000")
    parser.add_argument("--requests", type=int, default=60)
    options = parser.parse_args()
    print("| servers | page | p50 ms | p99 ms |\n|---|---|---|---|")
    for count in map(int, options.servers.split(",")):
        with tempfile.TemporaryDirectory() as place:
            home = Path(place) / "harbour"
            names = fill(home, count)
            pages = {
                "catalog": ["/"],
                "search": [str(httpx2.URL("/", params={"q": q.text})) for q in questions()[:40]],
                "a server": [f"/servers/{name}" for name in names],
                "profiles": ["/profiles"],
            }
            with console(home) as client:
                client.get("/")  # builds the index
                for page, paths in pages.items():
                    p50, p99 = timed(client, paths, options.requests)
                    print(f"| {count} | {page} | {p50:.0f} | {p99:.0f} |", flush=True)


if __name__ == "__main__":
    main()
