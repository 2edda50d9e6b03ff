"""Tables for people.  Everything shown came from strangers: markup is escaped, and cleaned text is all the store holds."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from catalog.importer import ImportReport
from catalog.search.documents import Card
from catalog.search.searcher import SearchPage
from harbourmaster.core.program import as_typed

MAX_SHOWN = 20


def console() -> Console:
    return Console(highlight=False)


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        made.add_column(heading, overflow="fold")
    for row in rows:
        made.add_row(*(escape(str(cell)) for cell in row))
    return made


def card_row(card: Card) -> tuple[str, ...]:
    return card.name, card.tier, card.kind, card.category, marks(card), first_line(card.description or card.title)


CARD_HEADINGS = ("SERVER", "TIER", "TYPE", "CATEGORY", "STATE", "WHAT IT DOES")


def marks(card: Card) -> str:
    """A word for each thing to know before enabling it."""
    found = [] if card.runnable else ["held"]
    found += [card.status] if card.status != "active" else []
    found += ["signed"] if "signature" in card.evidence else []
    found += ["vulnerable"] if card.vulnerable else []
    return " ".join(found) or "-"


def first_line(text: str, limit: int = 80) -> str:
    line = text.split("\n", 1)[0]
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def card_dict(card: Card) -> dict[str, Any]:
    return {name: getattr(card, name) for name in Card.__slots__}


def page_dict(page: SearchPage) -> dict[str, Any]:
    return {
        "total": page.total,
        "corrected": page.corrected,
        "hits": [card_dict(h.card) | {"score": h.score} for h in page.hits],
        "facets": page.facets,
        "revision": page.revision,
    }


def print_page(page: SearchPage, offset: int, *, with_facets: bool) -> None:
    out = console()
    for typed, used in page.corrected.items():
        out.print(f"nothing is called {escape(typed)}; searched for [bold]{escape(used)}[/bold]")
    if not page.total:
        out.print(
            as_typed(
                "nothing found; everything there is: hm catalog ls; more: hm catalog source add; starter servers: hm up"
            )
        )
        return
    out.print(table(CARD_HEADINGS, (card_row(h.card) for h in page.hits)))
    last = offset + len(page.hits)
    out.print(
        f"\n{offset + 1 if page.hits else 0}-{last} of {page.total}"
        + (f"; next: --offset {last}" if last < page.total else "")
    )
    if with_facets:
        for facet, counts in page.facets.items():
            listed = ", ".join(f"{escape(v)} {n}" for v, n in list(counts.items())[:8])
            out.print(f"{facet}: {listed}" if listed else f"{facet}: -")


def print_report(report: ImportReport) -> None:
    out = console()
    out.print(
        f"{escape(report.source)}: {report.read} read ({report.added} new, {report.changed} changed, "
        f"{report.unchanged} as before), {report.withdrawn} withdrawn, {len(report.unread)} unreadable"
    )
    if report.unread:
        out.print(
            table(
                ("UNREADABLE", "WHY", "WHAT TO DO"), ((u.name, u.message, u.remedy) for u in report.unread[:MAX_SHOWN])
            )
        )
    if report.not_runnable:
        out.print(f"\n{len(report.not_runnable)} cannot run safely as written:")
        out.print(
            table(
                ("SERVER", "WHY"),
                ((n, first_line(w[0], 110)) for n, w in list(report.not_runnable.items())[:MAX_SHOWN]),
            )
        )
        if len(report.not_runnable) > MAX_SHOWN:
            out.print(as_typed(f"... and {len(report.not_runnable) - MAX_SHOWN} more: hm catalog ls --held"))
    if report.findings:
        out.print("\nfindings: " + ", ".join(f"{code} {n}" for code, n in sorted(report.findings.items())))


def print_details(details: dict[str, Any]) -> None:
    out = console()
    out.print(f"[bold]{escape(details['title'])}[/bold]  ({escape(details['name'])}, {escape(details['source'])})")
    out.print(escape(details["description"] or "no description"))
    permissions = details.get("permissions", {})
    facts = {
        "tier": details["tier"],
        "type": details["kind"],
        "category": details["category"],
        "publisher": details["publisher"],
        "licence": details["licence"] or "not stated",
        "status": f"{details['status']} {details['status_message']}".strip(),
        "version": details.get("version", "-"),
        "repository": details["repository"] or "-",
        "network": _network(permissions),
        "secrets": ", ".join(permissions.get("secrets", [])) or "none",
        "host folders": ", ".join(permissions.get("volumes", [])) or "none",
        "tools": ", ".join(t["name"] for t in details.get("tools", [])) or "none recorded",
    }
    out.print(table(("", ""), facts.items()))
    findings = details.get("findings", [])
    if findings:
        out.print(
            table(
                ("FINDING", "LINE", "WHERE", "WHAT"),
                ((f["code"], f["line"] or "", f["path"], f["message"]) for f in findings),
            )
        )
    verdict = "can run as written" if details["runnable"] else "cannot run safely as written: see the findings"
    out.print(f"\n{verdict}")


def _network(permissions: dict[str, Any]) -> str:
    words = {"none": "none", "undeclared": "not declared: gets none", "remote": "runs elsewhere"}
    network = str(permissions.get("network", "undeclared"))
    return words.get(network) or ", ".join(permissions.get("hosts", []))
