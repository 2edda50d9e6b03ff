"""Chromium for the tests beside this: pages of one person, watched for errors and for addresses they should never ask."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from tests.web.conftest import Console

# --no-sandbox: CI runs as root, where chromium's own sandbox refuses to start.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
QUIET = ("Password forms should have",)  # advice of the browser's, about forms without a user name


@contextmanager
def chromium_browser(program: Path) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(program), args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watched:
    page: Page
    console: Console
    complaints: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def go(self, path: str) -> Any:
        return self.page.goto(self.console.url + path)

    def text(self) -> str:
        return self.page.inner_text("body")


@contextmanager
def person(browser: Browser, console: Console, role: str = "admin", **context: Any) -> Iterator[Watched]:
    """Logged in, with a page; at the end nothing was complained about and nothing was asked of anybody else."""
    options: dict[str, Any] = {"viewport": WIDE, "reduced_motion": "reduce", **context}
    opened = browser.new_context(base_url=console.url, **options)
    try:
        cookie = console.person(role).cookies
        opened.add_cookies([{"name": k, "value": v, "url": console.url} for k, v in cookie.items()])
        page = opened.new_page()
        page.set_default_timeout(10_000)
        watched = Watched(page, console)
        page.on("pageerror", lambda error: watched.complaints.append(str(error)))
        page.on("console", lambda message: _hear(watched, message))
        page.on("dialog", lambda dialog: watched.complaints.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: _ask(watched, request.url))
        yield watched
        assert not watched.complaints
        assert not watched.elsewhere
    finally:
        opened.close()


def _hear(watched: Watched, message: Any) -> None:
    refused_page = "the server responded with a status of" in message.text
    if message.type in ("error", "warning") and not refused_page and not message.text.startswith(QUIET):
        watched.complaints.append(f"{message.type}: {message.text}")


def _ask(watched: Watched, url: str) -> None:
    if not url.startswith((watched.console.url, "data:", "about:")):
        watched.elsewhere.append(url)
