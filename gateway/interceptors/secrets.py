"""Credentials in what is said: known shapes, and the very values that this process handed out.  Pure.

An automaton looks for the beginnings of all of them in one pass over the encoded message (1 microsecond for 10 KB); only
where one is found does that shape's expression look closer.  The message is what the gateway wrote itself, so a character has one spelling.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from ahocorasick_rs import BytesAhoCorasick, MatchKind

from gateway.interceptors.errors import Lookalikes
from harbourmaster.core.redaction import Redactor

MIN_VARIETY: Final = 6  # different characters; fewer is a placeholder such as ghp_xxxxxxxx
IN_USE_NAME: Final = "secret-in-use"
JWT: Final = "json-web-token"
# Beginnings in one message that are looked at closer, at about a microsecond each; a page of 32 MiB has fewer links
MAX_HITS: Final = 200_000
CHUNK: Final = 1 << 18  # bytes that are searched at a time: the automaton returns all it finds at once


@dataclass(frozen=True, slots=True)
class Found:
    """``kind`` in ``data[start:end]``."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Shape:
    """``starts``: how it begins; ``rest``: what must follow there."""

    kind: str
    starts: tuple[bytes, ...]
    rest: re.Pattern[bytes]


def _shape(kind: str, starts: str, rest: str) -> Shape:
    return Shape(kind, tuple(start.encode() for start in starts.split(",")), re.compile(rest.encode()))


_W: Final = "[A-Za-z0-9_-]"
_END: Final = "(?![A-Za-z0-9_])"
# Each from its issuer's documentation of its own token format.
SHAPES: Final = (
    _shape("aws-access-key", "AKIA,ASIA", f"[A-Z2-7]{{16}}{_END}"),
    _shape("github-token", "ghp_,gho_,ghu_,ghs_,ghr_", "[A-Za-z0-9]{36,251}"),
    _shape("github-token", "github_pat_", "[A-Za-z0-9]{22}_[A-Za-z0-9]{59}"),
    _shape("gitlab-token", "glpat-,gldt-,glrt-,glptt-,glcbt-", f"{_W}{{20,300}}"),
    _shape("slack-token", "xoxb-,xoxp-,xoxa-,xoxr-,xoxs-,xoxe-", "[0-9A-Za-z-]{20,250}"),
    _shape("slack-webhook", "https://hooks.slack.com/services/", "[A-Z0-9]{8,12}/[A-Z0-9]{8,12}/[A-Za-z0-9]{20,30}"),
    _shape("stripe-key", "sk_live_,rk_live_,sk_test_,rk_test_,whsec_", "[A-Za-z0-9]{20,250}"),
    _shape("google-api-key", "AIza", f"{_W}{{35}}(?!{_W})"),
    _shape("google-oauth-token", "ya29.", f"{_W}{{30,1000}}"),
    _shape("google-oauth-secret", "GOCSPX-", f"{_W}{{28}}"),
    _shape("private-key", "-----BEGIN ", "(?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----(?:[^\"\\\\-]|\\\\[^\"]|-(?!----))*(?:-----END [A-Z0-9 ]{5,40}-----)?"),
    _shape(JWT, "eyJ", "(?!)"),  # `_Runs`
    _shape("npm-token", "npm_", f"[A-Za-z0-9]{{36}}{_END}"),
    _shape("pypi-token", "pypi-AgE", f"{_W}{{50,1000}}"),
    _shape("anthropic-key", "sk-ant-", f"{_W}{{40,250}}"),
    _shape("openai-key", "sk-proj-,sk-svcacct-,sk-admin-", f"{_W}{{40,250}}"),
    _shape("openai-key", "sk-", "[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}"),
    _shape("hugging-face-token", "hf_", f"[A-Za-z0-9]{{34,40}}{_END}"),
    _shape("digitalocean-token", "dop_v1_,doo_v1_,dor_v1_", "[a-f0-9]{64}"),
    _shape("sendgrid-key", "SG.", f"{_W}{{22}}\\.{_W}{{43}}"),
    _shape("azure-storage-key", "AccountKey=", "[A-Za-z0-9+/]{86}=="),
    _shape("age-key", "AGE-SECRET-KEY-1", "[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}"),
    _shape("harbourmaster-token", "hm_", f"{_W}{{43}}(?!{_W})"),
    _shape("databricks-token", "dapi", f"[a-f0-9]{{32}}{_END}"),
    _shape("shopify-token", "shpat_,shpca_,shppa_,shpss_", f"[a-fA-F0-9]{{32}}{_END}"),
    _shape("linear-key", "lin_api_", "[A-Za-z0-9]{40}"),
    _shape("docker-token", "dckr_pat_,dckr_oat_", f"{_W}{{27,40}}"),
    _shape("vault-token", "hvs.,hvb.", f"{_W}{{24,300}}"),
    _shape("telegram-token", "bot", f"[0-9]{{8,10}}:AA{_W}{{33}}(?!{_W})"),
    _shape("password-in-url", "://", "[^\\s/:@\"\\\\?#]{0,128}:(?!\\$|\\{|<|%24)[^\\s/@\"\\\\:]{3,256}@(?=[A-Za-z0-9\\[])"),
)  # fmt: skip
_RUN: Final = re.compile(rb"[A-Za-z0-9_-]*+")
_TAIL: Final = re.compile(rb"\.eyJ[A-Za-z0-9_-]{10,8000}+\.[A-Za-z0-9_-]{20,2000}")
_HEADER: Final = range(10, 4001)  # characters of a token's first part
# What stands before the second half of an escape: a backslash that is not escaped itself, or the start of \\uXXXX.
_ESCAPE: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\(?:u[0-9a-fA-F]{0,3})?\Z")
# A word that goes on; the letters of an escape such as \\n are none of it.
_LONGER: Final = re.compile(rb"(?<!\\)(?<!\\u...)[A-Za-z0-9_]\Z")
_WORD: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")


class SecretScan:
    """``find`` costs one pass.  ``in_use``: the values that count as secrets whatever they look like."""

    def __init__(self, in_use: Redactor) -> None:
        self._in_use = in_use
        self._spelt: frozenset[str] | None = None
        self._shapes: list[Shape | None] = []
        self._first = self._all = BytesAhoCorasick([b"\0"])
        self._longest = 1
        self._build(frozenset())

    def find(self, data: bytes) -> list[Found]:
        """What is in ``data``, in order, without overlaps."""
        spelt = self._in_use.in_json
        if spelt is not self._spelt:
            self._build(spelt)
        if not _any(self._first, data, self._longest):
            return []
        return _apart(self._confirmed(data, hits(self._all, data, self._longest, overlapping=True)))

    def _confirmed(self, data: bytes, found: Iterable[Hit]) -> Iterable[Found]:
        runs = _Runs(data)
        for number, (pattern, start, end) in enumerate(found):
            if number >= MAX_HITS:
                raise Lookalikes(
                    f"the message holds over {MAX_HITS} beginnings of credentials, and what they are cannot be told in time",
                    remedy="send or ask for less at once",
                )
            if _ESCAPE.search(data, max(0, start - 64), start):
                continue  # it begins with the letter of an escape, which is no letter of the text
            shape = self._shapes[pattern]
            if shape is None:
                yield Found(IN_USE_NAME, start, end)
                continue
            if data[start] in _WORD and _LONGER.search(data, max(0, start - 6), start):
                continue  # the middle of a longer word
            after = runs.token(end) if shape.kind == JWT else _end(shape.rest.match(data, end))
            if after is not None and _looks_real(shape, data[start:after]):
                yield Found(shape.kind, start, after)

    def _build(self, spelt: frozenset[str]) -> None:
        pairs: list[tuple[bytes, Shape | None]] = [(start, shape) for shape in SHAPES for start in shape.starts]
        pairs += [(text.encode("utf-8", "surrogatepass"), None) for text in sorted(spelt)]
        self._shapes = [shape for _, shape in pairs]
        starts = [start for start, _ in pairs]
        self._first = BytesAhoCorasick(starts, MatchKind.LeftmostFirst)  # ten times as fast, but one of what overlaps
        self._all = BytesAhoCorasick(starts)
        self._longest = max(map(len, starts))
        self._spelt = spelt


Hit = tuple[int, int, int]  # number of the pattern, start, end


def hits(automaton: BytesAhoCorasick, data: bytes, longest: int, *, overlapping: bool = False) -> Iterator[Hit]:
    """What ``automaton`` finds in ``data``, bit by bit, so that whoever has enough can stop.  ``longest``: bytes of its
    longest pattern."""
    if len(data) <= CHUNK:
        yield from automaton.find_matches_as_indexes(data, overlapping)
        return
    for begin in range(0, len(data), CHUNK):
        first = max(0, begin - longest + 1)  # what began in the piece before, and ends in this one
        for number, start, end in automaton.find_matches_as_indexes(data[first : begin + CHUNK], overlapping):
            if end + first > begin:
                yield number, start + first, end + first


def _any(automaton: BytesAhoCorasick, data: bytes, longest: int) -> bool:
    if len(data) <= CHUNK:  # nearly every message: no generator for it
        return bool(automaton.find_matches_as_indexes(data))
    return next(hits(automaton, data, longest), None) is not None


class _Runs:
    """JSON web tokens in one message.  Every beginning in one run of a token's characters has the same end, so it is
    looked for once: a run of nothing but beginnings would cost its length for each."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._end = -1  # of the run that was looked at last
        self._after: int | None = None  # where a token ends whose first part ends with that run

    def token(self, at: int) -> int | None:
        """Where the token ends whose first part goes on at ``at``; None where there is none.  ``at`` never decreases."""
        if at > self._end:
            run = _RUN.match(self._data, at)
            self._end = run.end() if run is not None else at
            self._after = _end(_TAIL.match(self._data, self._end))
        return self._after if self._end - at in _HEADER else None


def _end(match: re.Match[bytes] | None) -> int | None:
    return match.end() if match is not None else None


def redacted(data: bytes, found: Iterable[Found]) -> bytes:
    """``data``, still valid JSON: what is found never holds a quote or half of an escape."""
    out, after = [], 0
    for each in found:
        out += [data[after : each.start], b"[redacted: %s]" % each.kind.encode()]
        after = each.end
    return b"".join([*out, data[after:]])


def kinds(found: Iterable[Found]) -> list[str]:
    return sorted({each.kind for each in found})


def _looks_real(shape: Shape, text: bytes) -> bool:
    if shape.kind == "password-in-url":
        return True
    return len(set(text)) >= MIN_VARIETY + len(set(text[:4])) and b"EXAMPLE" not in text


def _apart(found: Iterable[Found]) -> list[Found]:
    kept: list[Found] = []
    for each in sorted(found, key=lambda f: (f.start, -f.end)):
        if not kept or each.start >= kept[-1].end:
            kept.append(each)
        elif each.end > kept[-1].end:
            kept[-1] = Found(kept[-1].kind, kept[-1].start, each.end)
    return kept
