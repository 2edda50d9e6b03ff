"""Pages from templates.  Everything a template prints is escaped; what servers wrote has its unseen characters spelt out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.requests import Request
from starlette.responses import HTMLResponse

from harbourmaster import __version__
from harbourmaster.core.redaction import IN_USE
from web import words
from web.harbour import Harbour
from web.icons import flag, icon
from web.identity import Who

_HEX = re.compile(r"[0-9a-f]+")
HERE = Path(__file__).parent

# (address, title, icon): the order in which people need them.
NAVIGATION = (
    ("/", "Catalog", "book"),
    ("/running", "Running", "pulse"),
    ("/changes", "Changes", "diff"),
    ("/audit", "Audit", "clock"),
    ("/profiles", "Profiles", "people"),
    ("/models", "Models", "brain"),
    ("/connect", "Connect", "plug"),
    ("/settings", "Settings", "gear"),
)


def environment() -> Environment:
    found = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals.update(icon=icon, flag=flag, words=words, navigation=NAVIGATION, version=__version__)
    found.filters.update(
        moment=words.moment,
        moment_s=words.moment_s,
        clipped=words.clipped,
        size=words.size,
        span=words.span,
        visible=lambda value: words.visible(str(value)),
        short_digest=words.short_digest,
        path=lambda value: quote(str(value), safe="/"),
        query=lambda value: urlencode(value, doseq=True),
        web_address=_web_address,
    )
    found.tests["is_hex"] = lambda value: bool(_HEX.fullmatch(str(value)))
    return found


def _web_address(value: object) -> str:
    """An address that may stand in a link, else nothing: no ``javascript:`` from an entry."""
    text = str(value)
    return text if text.startswith(("https://", "http://")) else ""


ENVIRONMENT = environment()


def compile_templates() -> None:
    """All of them, so that nobody's first look at a page waits for it: a server's page takes 0.1 s once."""
    for name in ENVIRONMENT.list_templates():
        ENVIRONMENT.get_template(name)


def harbour_of(request: Request) -> Harbour:
    found = request.app.state.harbour
    assert isinstance(found, Harbour)
    return found


def is_htmx(request: Request) -> bool:
    return request.headers.get("hx-request") == "true"


def page(
    request: Request, who: Who | None, template: str, context: Mapping[str, Any], *, status: int = 200
) -> HTMLResponse:
    """``template`` with what every page has: who looks, where they are, and their form token."""
    access = harbour_of(request).access
    common = {
        "who": who,
        "here": request.url.path,
        "form_token": access.form_token(who) if who and who.session else "",
        "theme": request.cookies.get("theme") if request.cookies.get("theme") in ("light", "dark") else "",
        "notice": "",
    }
    html = ENVIRONMENT.get_template(template).render({**common, **context})
    return HTMLResponse(IN_USE.redact(html), status)
