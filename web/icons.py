"""Inline SVG, drawn for this project: line icons on a 20-unit grid, and a signal flag for every server.

No image is ever loaded from elsewhere: an icon's address in an entry is text to us.  A flag follows the server's first
letter (the International Code of Signals) and its name's hash (one of six palettes), so the same server always looks the same.
"""

from __future__ import annotations

import hashlib
from typing import Final

from markupsafe import Markup

_LINES: Final = {
    "search": '<circle cx="9" cy="9" r="5.5"/><path d="m13.2 13.2 4 4"/>',
    "check": '<path d="m4.5 10.5 3.7 3.7 7.3-8"/>',
    "seal": '<path d="M10 2.2 16.5 5v4.6c0 4-2.7 6.8-6.5 8.2-3.8-1.4-6.5-4.2-6.5-8.2V5z"/><path d="m7 9.8 2.2 2.2 3.9-4.2"/>',
    "dash": '<path d="M5 10h10"/>',
    "warn": '<path d="M10 3.2 17.6 16.5H2.4z"/><path d="M10 8v4M10 14.2v.3"/>',
    "refuse": '<circle cx="10" cy="10" r="7.3"/><path d="m5 5 10 10"/>',
    "question": '<circle cx="10" cy="10" r="7.3"/><path d="M7.8 8.2c0-1.3 1-2.1 2.2-2.1s2.2.8 2.2 2c0 1.7-2.2 1.7-2.2 3.5M10 13.9v.2"/>',
    "papers": '<path d="M5 2.5h7l3 3v12H5z"/><path d="M12 2.5v3h3M7.5 9h5M7.5 12h5M7.5 15h3"/>',
    "network": '<circle cx="10" cy="10" r="7.3"/><path d="M2.7 10h14.6M10 2.7c4.6 4.5 4.6 10.1 0 14.6-4.6-4.5-4.6-10.1 0-14.6z"/>',
    "no-network": '<circle cx="10" cy="10" r="7.3"/><path d="M2.7 10h6M10 2.7c2 2 3.2 4.3 3.4 6.7M4.5 4.5l11 11"/>',
    "key": '<circle cx="6.5" cy="13.5" r="3.5"/><path d="m9 11 7.5-7.5M13.5 6.5l2.5 2.5"/>',
    "read": '<path d="M1.8 10S4.8 4.5 10 4.5s8.2 5.5 8.2 5.5-3 5.5-8.2 5.5S1.8 10 1.8 10z"/><circle cx="10" cy="10" r="2.4"/>',
    "disk": '<ellipse cx="10" cy="5" rx="6.5" ry="2.5"/><path d="M3.5 5v10c0 1.4 2.9 2.5 6.5 2.5s6.5-1.1 6.5-2.5V5M3.5 10c0 1.4 2.9 2.5 6.5 2.5s6.5-1.1 6.5-2.5"/>',
    "anchor": '<circle cx="10" cy="4" r="1.8"/><path d="M10 5.8V17M6.5 8.5h7M3 11.5C3.5 15 6.5 17 10 17s6.5-2 7-5.5"/>',
    "tool": '<path d="M12.5 3.2a4.3 4.3 0 0 0-4.8 6L3 13.9 6.1 17l4.7-4.7a4.3 4.3 0 0 0 6-4.8l-2.6 2.6-2.5-.7-.7-2.5z"/>',
    "hull": '<path d="M2.5 12.5h15l-2.2 4.5H4.7zM5 12.5v-4h10v4M8 8.5V5h4v3.5"/>',
    "pulse": '<path d="M1.8 10h3.7l2-5.5 4 11 2.3-5.5h4.4"/>',
    "diff": '<path d="M6 3v8M2 7h8M11 15h7M13.5 3 6.5 17" />',
    "book": '<path d="M10 4.8C8 3.3 5.5 3 2.5 3.2v12.3c3-.2 5.5.1 7.5 1.5 2-1.4 4.5-1.7 7.5-1.5V3.2C14.5 3 12 3.3 10 4.8zM10 4.8V17"/>',
    "brain": '<rect x="5" y="5" width="10" height="10" rx="1.5"/><path d="M8 8h4v4H8zM8 2v3M12 2v3M8 15v3M12 15v3M2 8h3M2 12h3M15 8h3M15 12h3"/>',
    "people": '<circle cx="7" cy="7" r="3"/><path d="M1.5 17c.4-3.2 2.6-5 5.5-5s5.1 1.8 5.5 5M12.5 4.3a3 3 0 0 1 0 5.4M14 12.3c2.4.5 4 2.2 4.5 4.7"/>',
    "gear": '<circle cx="10" cy="10" r="2.6"/><path d="M10 2v2.6M10 15.4V18M2 10h2.6M15.4 10H18M4.3 4.3l1.9 1.9M13.8 13.8l1.9 1.9M15.7 4.3l-1.9 1.9M6.2 13.8l-1.9 1.9"/>',
    "plug": '<path d="M7 2.5V6M13 2.5V6M4.5 6h11v3.5c0 3-2.4 5-5.5 5s-5.5-2-5.5-5zM10 14.5V18"/>',
    "copy": '<rect x="7" y="7" width="10" height="10" rx="1.5"/><path d="M13 7V3H3v10h4"/>',
    "moon": '<path d="M16.5 12.3A7 7 0 0 1 7.7 3.5a7 7 0 1 0 8.8 8.8z"/>',
    "exit": '<path d="M8 3H3.5v14H8M12 6l4 4-4 4M16 10H7.5"/>',
    "arrow": '<path d="M4 10h12M11 5l5 5-5 5"/>',
    "clock": '<circle cx="10" cy="10" r="7.3"/><path d="M10 5.5V10l3 2"/>',
    "stop": '<rect x="5" y="5" width="10" height="10" rx="1"/>',
    "plus": '<path d="M10 4v12M4 10h12"/>',
}
ICONS: Final = frozenset(_LINES)

_HEAD = '<svg class="{cls}" viewBox="0 0 {box} {box}" aria-hidden="true" focusable="false">'


def icon(name: str, cls: str = "icon") -> Markup:
    return Markup(_HEAD.format(cls=cls, box=20) + _LINES[name] + "</svg>")  # noqa: S704 - our own drawings


# Fields of a 24-unit flag: (shape, colour a, b or c).  After the International Code of Signals (IMO, 2005), simplified.
_RECT = '<path class="{}" d="M{} {}h{}v{}h-{}z"/>'


def _rect(colour: str, x: float, y: float, w: float, h: float) -> str:
    return _RECT.format(colour, x, y, w, h, w)


def _full(colour: str) -> str:
    return _rect(colour, 0, 0, 24, 24)


def _path(colour: str, d: str) -> str:
    return f'<path class="{colour}" d="{d}"/>'


def _bars(*colours: str) -> str:
    h = 24 / len(colours)
    return "".join(_rect(c, 0, round(n * h, 2), 24, round(h, 2)) for n, c in enumerate(colours))


def _posts(*colours: str) -> str:
    w = 24 / len(colours)
    return "".join(_rect(c, round(n * w, 2), 0, round(w, 2), 24) for n, c in enumerate(colours))


def _checks(a: str, b: str, n: int) -> str:
    s = 24 / n
    cells = (_rect(b, x * s, y * s, s, s) for x in range(n) for y in range(n) if (x + y) % 2)
    return _full(a) + "".join(cells)


def _disc(colour: str, r: float) -> str:
    return f'<circle class="{colour}" cx="12" cy="12" r="{r}"/>'


_QUARTERS = _path("a", "M0 0h24L12 12z") + _path("b", "M24 0v24L12 12z") + _path("c", "M24 24H0l12-12z")
_FLAGS: Final = {
    "a": _posts("c", "a"),
    "b": _path("a", "M0 0h24l-6 12 6 12H0z"),
    "c": _bars("a", "c", "b", "c", "a"),
    "d": _rect("b", 0, 0, 24, 6) + _rect("a", 0, 6, 24, 12) + _rect("b", 0, 18, 24, 6),
    "e": _bars("a", "b"),
    "f": _full("c") + _path("a", "M12 1.5 22.5 12 12 22.5 1.5 12z"),
    "g": _posts("b", "a", "b", "a", "b", "a"),
    "h": _posts("c", "a"),
    "i": _full("b") + _disc("a", 6.5),
    "j": _bars("a", "c", "a"),
    "k": _posts("b", "a"),
    "l": _checks("b", "a", 2),
    "m": _full("a") + _path("c", "M0 0h5l7 8.5L19 0h5v5l-8.5 7 8.5 7v5h-5l-7-8.5L5 24H0v-5l8.5-7L0 5z"),
    "n": _checks("a", "c", 4),
    "o": _path("a", "M0 0h24v24z") + _path("b", "M0 0v24h24z"),
    "p": _full("a") + _rect("c", 7, 7, 10, 10),
    "q": _full("b") + _rect("a", 3, 3, 18, 18),
    "r": _full("a") + _rect("b", 9, 0, 6, 24) + _rect("b", 0, 9, 24, 6),
    "s": _full("c") + _rect("a", 7, 7, 10, 10),
    "t": _posts("a", "c", "b"),
    "u": _checks("a", "c", 2),
    "v": _full("c") + _path("a", "M0 0h4l8 8.8L20 0h4v4l-8.8 8 8.8 8v4h-4l-8-8.8L4 24H0v-4l8.8-8L0 4z"),
    "w": _full("a") + _rect("c", 4.5, 4.5, 15, 15) + _rect("b", 9, 9, 6, 6),
    "x": _full("c") + _rect("a", 9, 0, 6, 24) + _rect("a", 0, 9, 24, 6),
    "y": "".join(_path("b" if n % 2 else "a", f"M{n * 6 - 24} 24 {n * 6} 0h6L{n * 6 - 18} 24z") for n in range(8)),
    "z": _QUARTERS + _path("b", "M0 0v24l12-12z"),
}
PALETTES: Final = 6


def flag(name: str, cls: str = "flag") -> Markup:
    """``name``: of a server; what is drawn depends on it, and none of its text is in the drawing."""
    word = name.rsplit("/", 1)[-1].lower()
    letter = next((c for c in word if c in _FLAGS), "x")
    palette = hashlib.sha256(name.encode("utf-8", "replace")).digest()[0] % PALETTES
    head = _HEAD.format(cls=f"{cls} palette-{palette}", box=24)
    return Markup(head + _FLAGS[letter] + "</svg>")  # noqa: S704 - our own drawings
