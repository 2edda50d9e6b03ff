"""Takes the pictures in docs/screenshots from a console that runs: ``hm console link | python -m tests.web.screenshots``,
with names behind it only these.

Best from a home where ``hm up`` has run and advisories are loaded.  Not a test.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

PLACE = Path(__file__).resolve().parents[2] / "docs" / "screenshots"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-lcd-text"]  # grey text compresses to half
WIDE, PHONE = {"width": 1120, "height": 760}, {"width": 390, "height": 780}

SHOTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("catalog-light", "/", {"color_scheme": "light", "viewport": WIDE}),
    ("catalog-dark", "/", {"color_scheme": "dark", "viewport": WIDE}),
    ("catalog-phone", "/", {"color_scheme": "light", "viewport": PHONE}),
    ("server-light", "/servers/time", {"color_scheme": "light", "viewport": WIDE}),
    ("server-dark", "/servers/context7", {"color_scheme": "dark", "viewport": WIDE}),
    ("server-phone", "/servers/time", {"color_scheme": "dark", "viewport": PHONE}),
    ("running", "/running", {"color_scheme": "light", "viewport": WIDE}),
    ("changes", "/changes", {"color_scheme": "light", "viewport": WIDE}),
    ("audit", "/audit?verify=1", {"color_scheme": "light", "viewport": WIDE}),
    ("connect", "/connect", {"color_scheme": "light", "viewport": WIDE}),
    ("models", "/models", {"color_scheme": "dark", "viewport": WIDE}),
    ("submit", "/submit", {"color_scheme": "light", "viewport": WIDE}),
    ("publish", "/publish", {"color_scheme": "light", "viewport": WIDE}),
    ("remote", "/remote", {"color_scheme": "light", "viewport": WIDE}),
    ("folders", "/folders", {"color_scheme": "dark", "viewport": WIDE}),
)


def main() -> None:
    link = sys.stdin.readline().strip()
    base = link.partition("/enter/")[0]
    PLACE.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        first = browser.new_context()
        first.new_page().goto(link)
        state = first.storage_state()
        for name, path, look in SHOTS:
            if sys.argv[1:] and name not in sys.argv[1:]:
                continue
            context = browser.new_context(storage_state=state, reduced_motion="reduce", **look)
            page = context.new_page()
            page.goto(base + path)
            page.screenshot(path=PLACE / f"{name}.png")
            context.close()
        browser.close()


if __name__ == "__main__":
    main()
