"""The pages, one router per subject."""

from __future__ import annotations

from web.pages import catalog, connect, login, ship

PAGES = (login.router, catalog.router, ship.router, connect.router)
