"""The pages, one router per subject."""

from __future__ import annotations

from web.pages import catalog, login

PAGES = (login.router, catalog.router)
