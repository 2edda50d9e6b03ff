"""``hm registry check`` as Markdown: one verdict for each check.  Pure; everything from strangers is made harmless.

Forges render HTML, links, images and @names in a comment: no text of an entry or a server gets that far.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Word = Literal["pass", "warn", "fail", "skip"]
MARKS: dict[Word, str] = {"pass": "✔ pass", "warn": "! look", "fail": "✘ fail", "skip": "– not checked"}
MAX_DETAIL = 600  # characters; the whole story is in the log

# Emphasis, code, links, images, HTML, tables, mentions, issue numbers, LaTeX; addresses that GFM links by itself; list marks
_SPECIAL = re.compile(r"[\\`*_\[\]#|<>~$@&]|(?<=[A-Za-z]):(?=//)|(?<=www)\.|^[+-](?= )", re.IGNORECASE)


@dataclass(frozen=True)
class Verdict:
    check: str
    word: Word
    detail: str = ""


@dataclass
class EntryReport:
    name: str
    verdicts: list[Verdict] = field(default_factory=list)
    sections: dict[str, list[str]] = field(default_factory=dict)  # heading -> lines of a diff

    @property
    def word(self) -> Word:
        words = {v.word for v in self.verdicts}
        return next((w for w in ("fail", "warn", "skip") if w in words), "pass")


@dataclass
class Report:
    """``notes``: what concerns no single entry, such as changes elsewhere in the repository."""

    entries: list[EntryReport]
    notes: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        return any(entry.word == "fail" for entry in self.entries)

    def as_dict(self) -> dict[str, Any]:
        bodies = [{"name": e.name, "verdict": e.word, **asdict(e)} for e in self.entries]
        return {"failed": self.failed, "entries": bodies, "notes": self.notes}

    def markdown(self) -> str:
        lines = ["# Registry check", "", _summary(self.entries), ""]
        for entry in self.entries:
            lines += _entry(entry)
        if self.notes:
            lines += ["## Beside the entries", "", *(f"- {plain(note)}" for note in self.notes), ""]
        return "\n".join(lines)


def plain(text: str, limit: int = MAX_DETAIL) -> str:
    """``text`` on one line, with nothing in it that Markdown, HTML or a forge would act on."""
    line = " ".join(text.split())
    line = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in line)
    line = line if len(line) <= limit else line[: limit - 1] + "…"
    return _SPECIAL.sub(lambda match: f"&#{ord(match[0])};", line)


def _summary(entries: Sequence[EntryReport]) -> str:
    if not entries:
        return "No entry changed."
    words = [entry.word for entry in entries]
    counts = [f"{words.count(word)} {MARKS[word]}" for word in MARKS if word in words]
    return f"{len(entries)} {'entry' if len(entries) == 1 else 'entries'} checked: {', '.join(counts)}."


def _entry(entry: EntryReport) -> list[str]:
    lines = [f"## {plain(entry.name)}: {MARKS[entry.word]}", "", "| check | verdict | detail |", "|---|---|---|"]
    lines += [f"| {plain(v.check)} | {MARKS[v.word]} | {plain(v.detail)} |" for v in entry.verdicts]
    for heading, changes in entry.sections.items():
        lines += ["", f"### {heading}", "", *(f"- {plain(line)}" for line in changes or ["nothing"])]
    return [*lines, ""]
