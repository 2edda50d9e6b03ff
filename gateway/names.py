"""Public names: what clients see when many servers share one roof.

A name is bare while one enabled server has it, else ``server__name`` for each of them, so nothing shadows silently;
``server__name`` is understood in calls either way.  Clients accept ``^[a-zA-Z0-9_-]{1,64}$`` (the rule of the large
model APIs, narrower than MCP's own), so other names are rewritten, with a hash where the rewriting loses something.
Resource URIs that collide get the server's name as a scheme prefix: ``memory+file:///notes``.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping

SEPARATOR = "__"
MAX_NAME = 64
_UNFIT = re.compile(r"[^a-zA-Z0-9_-]")

Owned = tuple[str, str]  # (server, the name it uses itself)
_NONE: Mapping[Owned, str] = {}


def qualified(server: str, name: str) -> str:
    return _fit(f"{server}{SEPARATOR}{name}", server, name)


def public_names(
    owned: Iterable[Owned], kept: Mapping[Owned, str] = _NONE, taken: Container[str] = ()
) -> dict[Owned, str]:
    """A public name for every (server, name), each different, and the same for the same input whatever its order.

    ``kept``: names that a client has been told already; they stay, and whoever comes later makes way.  ``taken``: names
    of others, which nobody here but who keeps one may have.
    """
    pairs = sorted(set(owned))
    bare = {pair: kept.get(pair) or _fit(pair[1], *pair) for pair in pairs}
    shared = Counter(bare.values())
    free = {p: p in kept or (shared[name] == 1 and name not in taken) for p, name in bare.items()}
    chosen = {p: name if free[p] else qualified(*p) for p, name in bare.items()}
    clashes = Counter(chosen.values())
    return {p: n if clashes[n] == 1 or p in kept else _hashed(qualified(*p), *p) for p, n in chosen.items()}


def public_uris(
    owned: Iterable[Owned], kept: Mapping[Owned, str] = _NONE, taken: Container[str] = ()
) -> dict[Owned, str]:
    """As ``public_names``, for resource URIs and URI templates."""
    pairs = sorted(set(owned))
    shared = Counter(uri for _, uri in pairs)
    free = {p: shared[p[1]] == 1 and p[1] not in taken for p in pairs}
    return {p: kept.get(p) or (p[1] if free[p] else prefixed_uri(*p)) for p in pairs}


def prefixed_uri(server: str, uri: str) -> str:
    """``server+scheme:...``: a valid URI (RFC 3986 section 3.1 allows '+' in a scheme) that says who owns it."""
    return f"{server}+{uri}" if server[:1].isalpha() else f"s{server}+{uri}"


def _fit(name: str, server: str, original: str) -> str:
    fitted = _UNFIT.sub("_", name)
    if fitted == name and 0 < len(name) <= MAX_NAME:
        return name
    return _hashed(fitted, server, original)


def _hashed(name: str, server: str, original: str) -> str:
    digest = hashlib.sha256(f"{server}\0{original}".encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{name[: MAX_NAME - len(digest) - 1]}_{digest}"
