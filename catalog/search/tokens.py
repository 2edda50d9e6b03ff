"""Words as the index and the query both see them: folded, split, stemmed."""

from __future__ import annotations

import itertools
import re
import unicodedata
from functools import lru_cache

MAX_WORD_CHARS = 40
_WORD = re.compile(r"[^\W_]+", re.UNICODE)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_VOWEL = re.compile(r"[aeiouy]")

# Words that carry no subject: English function words, what people type around a wish, and what every entry is.
STOPWORDS = frozenset(
    """a about an and any are as at be by can could did do does for from get give has have help how i if in into is it its
    let lets like make me my need needs of on or our out please s should so some something that the their them then there
    these they this those to up us use used using via want wants was we what when where which who will with would you your
    mcp server servers tool tools based official""".split()  # noqa: SIM905 - forty lines otherwise
)


def words(text: str) -> list[str]:
    """``"E-Mails, naïve"`` -> ``["e", "mails", "naive"]``."""
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return [w[:MAX_WORD_CHARS] for w in _WORD.findall(text.lower())]


def identifier_words(text: str) -> list[str]:
    """``getPullRequest_v2`` -> ``["get", "pull", "request", "v2"]``."""
    return words(_CAMEL.sub(" ", text))


def with_joined(parts: list[str]) -> list[str]:
    """The words and each neighbouring pair written as one, so that ``hackernews`` finds ``Hacker News``."""
    return parts + [a + b for a, b in itertools.pairwise(parts) if len(a) + len(b) <= MAX_WORD_CHARS]


@lru_cache(maxsize=200_000)
def stem(word: str) -> str:
    """A light English stem: plurals, -ing, -ed, -ion, -ment, -ly and a final e.  Numbers and short words stay."""
    if len(word) <= 3 or not word.isalpha() or not word.isascii():
        return word
    return _final_e(_suffix(_plural(word)))


def _plural(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes", "zzes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is", "ws")):
        return word[:-1]
    return word


def _suffix(word: str) -> str:
    for ending, least in (("ing", 3), ("ed", 3), ("ement", 4), ("ment", 4), ("ion", 4), ("ly", 4)):
        body = word[: -len(ending)]
        if word.endswith(ending) and len(body) >= least and _VOWEL.search(body):
            if ending == "ed" and body.endswith("e"):
                return word
            return _undoubled(body) if ending in ("ing", "ed") else body
    return word


def _undoubled(body: str) -> str:
    return body[:-1] if len(body) > 3 and body[-1] == body[-2] and body[-1] not in "lsz" else body


def _final_e(word: str) -> str:
    return word[:-1] if len(word) > 4 and word.endswith("e") else word
