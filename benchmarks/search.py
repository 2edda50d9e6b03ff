"""Search under load: generated catalogs of 300 to 10,000 servers (ten tools each), eight people typing at once.

    python -m benchmarks.search [--servers 300,3000,10000] [--database postgresql://...] [--users 8] [--seconds 10]

Times move between runs and machines: compare the rows of one run.  What is printed: milliseconds per search as each user
sees it (p50, p99), searches per second over all users, seconds to import and to build the index, and its memory.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import random
import resource
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from catalog import service
from catalog.categories import CATEGORIES
from catalog.importer import import_offers
from catalog.records import EntryRecord, Permissions, ToolRecord
from catalog.search.searcher import Searcher, SearchRequest
from catalog.store import Store
from harbourmaster.core.digests import sha256
from harbourmaster.core.settings import Settings

TOOLS = 10
VOCABULARY = 20_000
SYLLABLES = [a + b for a in "bcdfghklmnprstvz" for b in "aeiou"]
COMMON = [
    "create",
    "list",
    "get",
    "update",
    "delete",
    "search",
    "query",
    "read",
    "write",
    "send",
    "fetch",
    "run",
    "file",
    "user",
    "project",
    "issue",
    "message",
    "database",
    "table",
    "record",
    "document",
    "image",
    "email",
    "payment",
    "invoice",
    "customer",
    "cluster",
    "container",
    "log",
    "metric",
    "alert",
    "web",
    "page",
    "browser",
    "code",
    "repository",
    "branch",
]


class Words:
    """A vocabulary in which few words are common and most are rare, as in real text (Zipf)."""

    def __init__(self, seed: int = 1) -> None:
        self.random = random.Random(seed)
        made = {"".join(self.random.choices(SYLLABLES, k=self.random.randint(2, 4))) for _ in range(VOCABULARY * 2)}
        self.words = COMMON + sorted(made)[:VOCABULARY]
        self.random.shuffle(self.words[len(COMMON) :])
        self.weights = list(itertools.accumulate(1 / (rank + 3) for rank in range(len(self.words))))

    def some(self, count: int) -> list[str]:
        return self.random.choices(self.words, cum_weights=self.weights, k=count)

    def rare(self) -> str:
        return self.random.choice(self.words[len(COMMON) :])


def servers(count: int, seed: int = 1) -> Iterator[EntryRecord]:
    """``count`` entries; the same for the same arguments on every machine."""
    words = Words(seed)
    categories = list(CATEGORIES)
    for number in range(count):
        product = f"{words.rare()}{words.rare()}"
        name = f"{product}-{number}"
        text = " ".join(words.some(25))
        tools = tuple(
            ToolRecord(
                "_".join([words.some(1)[0], product, words.some(1)[0], str(t)]),
                " ".join(words.some(15)),
                tuple(
                    {"name": w, "type": "string", "description": " ".join(words.some(4)), "required": True}
                    for w in words.some(3)
                ),
                {"readOnlyHint": words.random.random() < 0.5},
            )
            for t in range(TOOLS)
        )
        yield EntryRecord(
            name=name,
            title=product.title(),
            description=text,
            kind=words.random.choice(("server", "server", "server", "remote")),
            category=words.random.choice(categories),
            tier=words.random.choice(("built", "community")),
            version="1",
            document=text.encode(),
            media_type="text/plain",
            digest=sha256(name.encode()),
            tags=tuple(dict.fromkeys(words.some(3))),
            publisher=words.rare(),
            tools=tools,
            permissions=Permissions(network=words.random.choice(("none", "hosts", "undeclared"))),
        )


def questions(seed: int = 2) -> list[SearchRequest]:
    """What people send: whole queries, words half typed, misspelled words, filters."""
    words, made = Words(1), []
    words.random.seed(seed)
    for number in range(400):
        text = " ".join(words.some(words.random.randint(1, 4)) + ([words.rare()] if number % 2 else []))
        if number % 4 == 1:
            text = text[:-2]
        if number % 8 == 2:
            place = words.random.randrange(1, len(text))
            text = text[:place] + text[place + 1 :]
        filters = {"tier": ("built",)} if number % 5 == 0 else {}
        made.append(SearchRequest(text, filters, prefix=number % 4 == 1))
    return made


def load(searcher: Searcher, users: int, seconds: float) -> list[float]:
    """Each user sends one search after another; the times of all of them, in milliseconds."""
    asked, times, stop = questions(), [], threading.Event()

    def user(number: int) -> None:
        own = []
        for request in itertools.islice(itertools.cycle(asked), number * 50, None):
            if stop.is_set():
                break
            start = time.perf_counter()
            searcher.search(request)
            own.append((time.perf_counter() - start) * 1000)
        times.extend(own)

    threads = [threading.Thread(target=user, args=(n,)) for n in range(users)]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    return sorted(times)


def measure(count: int, database: str, users: int, seconds: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as home:
        store = Store.open(Settings.load(home=Path(home), database_url=database))
        for source, _ in service.list_sources(store):
            service.remove_source(store, source.name)
        source = service.add_source(store, f"synthetic-{count}", "mcp-registry", home)
        start = time.perf_counter()
        import_offers(store, source.id or 0, servers(count), complete=True, now=service.utc_now())
        imported = time.perf_counter() - start
        gc.collect()
        start = time.perf_counter()
        searcher = Searcher(store)
        searcher.refresh()
        built = time.perf_counter() - start
        alone = load(searcher, 1, seconds / 2)
        together = load(searcher, users, seconds)
        store.close()
    return {
        "servers": count,
        "import s": imported,
        "build s": built,
        "1 user p50": alone[len(alone) // 2],
        "1 user p99": alone[int(len(alone) * 0.99)],
        f"{users} users p50": together[len(together) // 2],
        f"{users} users p99": together[int(len(together) * 0.99)],
        "searches/s": len(together) / seconds,
        "peak MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", default="300,3000,10000")
    parser.add_argument("--database", default="")
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    for number, count in enumerate(options.servers.split(",")):
        row = measure(int(count), options.database, options.users, options.seconds)
        if not number:
            print("  ".join(f"{k:>12}" for k in row))
        print("  ".join(f"{v:12.0f}" if k == "servers" else f"{v:12.2f}" for k, v in row.items()), flush=True)


if __name__ == "__main__":
    main()
