"""Entries that somebody wrote to hurt whoever looks at them: shown as text, with nothing run and nobody asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from catalog.records import Finding, Permissions, ToolRecord
from tests.web.browsing import chromium_browser, person
from tests.web.conftest import CHANGED, LOCK, Console, entry, import_entries
from web.icons import ICONS, flag
from web.words import visible

SCRIPT = "<script>window.hurt = 1</script>"
IMAGE = "<img src=x onerror='window.hurt = 1'>\"'><svg onload=window.hurt=1>"
BIDI = "safe\u202etxt.exe\u2066\u200b"
TEMPLATE = "{{ 7 * 7 }}${7*7}{% include '/etc/passwd' %}"
ALL = SCRIPT + IMAGE + BIDI + TEMPLATE


@pytest.fixture(scope="module")
def browser(chromium: Path) -> Iterator[Browser]:
    with chromium_browser(chromium) as found:
        yield found


@pytest.fixture(scope="module")
def hostile(console: Console) -> Console:
    """Straight into the tables, as if every reader had let it pass."""
    tool = ToolRecord(
        f"tool{SCRIPT}",
        ALL + "\nsecond line" + IMAGE,
        ({"name": f"arg{IMAGE}", "type": SCRIPT, "description": ALL, "required": True},),
        {"readOnlyHint": True, "title": SCRIPT},
    )
    import_entries(
        console.harbour,
        "pirates",
        entry(
            "com.example/blackbeard",
            title=f"Blackbeard {ALL}",
            description=ALL,
            publisher=ALL,
            licence=ALL,
            homepage="javascript:window.hurt=1",
            repository="https://x.example/\"onmouseover='window.hurt=1'",
            icon="http://169.254.169.254/latest/meta-data/icon.png",
            readme=f"![x](http://169.254.169.254/x.png) {ALL} [a](javascript:window.hurt=1)",
            tags=("<b>tag</b>", "\u202egat"),
            status_message=ALL,
            version=f"1{SCRIPT}",
            images=(),
            tools=(tool,),
            findings=(Finding("x<b>", "error", ALL, ALL, ALL, 1),),
            permissions=Permissions(network="hosts", hosts=(ALL,), secrets=(ALL,), volumes=(ALL,), oauth=(ALL,)),
        ),
        entry("../../etc/passwd", title="Paths", images=(), icon="file:///etc/passwd"),
        entry("a?b=c&d#e%2f", title="Address", images=()),
    )
    return console


def test_script_in_every_field_of_an_entry_is_text(browser: Browser, hostile: Console) -> None:
    with person(browser, hostile) as at:
        for path in ("/?source=pirates", "/?q=blackbeard", "/servers/com.example/blackbeard"):
            at.go(path)
            for summary in at.page.locator("main details:not([open]) > summary").all():
                if summary.is_visible():
                    summary.click()
            at.page.mouse.move(400, 400)
            assert at.page.evaluate("window.hurt") is None
            expect(at.page.get_by_text("<script>window.hurt = 1</script>").first).to_be_visible()
            assert "49" not in at.page.locator("main .card-line, .ship-title").first.inner_text()
            assert (
                at.page.evaluate("document.querySelectorAll('main img, main script, main iframe, main object').length")
                == 0
            )


def test_text_that_would_reorder_a_line_is_spelt_out(browser: Browser, hostile: Console) -> None:
    with person(browser, hostile) as at:
        at.go("/servers/com.example/blackbeard")
        text = at.text()
        assert "\\u202e" in text
        assert not {"\u202e", "\u2066", "\u200b"} & set(text)


def test_no_link_of_an_entry_runs_a_script_and_no_icon_is_fetched(browser: Browser, hostile: Console) -> None:
    with person(browser, hostile) as at:  # ``person`` fails for any request elsewhere
        for path in ("/?source=pirates", "/servers/com.example/blackbeard"):
            at.go(path)
            links = at.page.evaluate("[...document.links].map(a => a.protocol)")
            assert set(links) <= {"http:", "https:", "cursor:", "vscode:", "vscode-insiders:"}
            assert "169.254" not in json.dumps(at.page.evaluate("[...document.images].map(i => i.src)"))


@pytest.mark.parametrize(("name", "title"), [("../../etc/passwd", "Paths"), ("a?b=c&d#e%2f", "Address")])
def test_a_name_that_looks_like_an_address_leads_to_its_own_page(
    browser: Browser, hostile: Console, name: str, title: str
) -> None:
    with person(browser, hostile) as at:
        at.go("/?source=pirates")
        link = at.page.locator(".card h2 a", has_text=title)
        assert "?b=c" not in (link.get_attribute("href") or "")
        answer = at.go("/api/servers?q=" + title)
        assert name in answer.text()


def test_a_hostile_change_is_shown_as_text(browser: Browser, hostile: Console) -> None:
    from gateway.drift import Drift
    from gateway.held import HeldFiles

    changed = {**CHANGED, "description": ALL, "annotations": {"title": SCRIPT}}
    HeldFiles(hostile.settings.held_dir).note(LOCK["time"], Drift("tools", changed={"tide": [changed]}))
    with person(browser, hostile) as at:
        at.go("/changes")
        expect(at.page.locator("#held-time")).to_contain_text("<script>window.hurt = 1</script>")
        expect(at.page.locator("#held-time .look").first).to_contain_text("nobody sees")
        assert at.page.evaluate("window.hurt") is None


def test_a_search_can_hold_anything(browser: Browser, hostile: Console) -> None:
    with person(browser, hostile) as at:
        at.go("/")
        at.page.locator("#q").fill(f'"{SCRIPT}\u202e')
        expect(at.page.locator(".found-count")).to_contain_text("<script>")
        assert at.page.evaluate("window.hurt") is None
        at.go("/?q=%22%3E%3Cscript%3Ewindow.hurt%3D1%3C/script%3E&sort=relevance&page=99999999999999999999")
        assert at.page.evaluate("window.hurt") is None
        assert at.go("/?sort=%3Cscript%3E").status == 400
        expect(at.page.locator(".code")).to_have_text("search.invalid")
        assert at.go("/?tier=%3Cscript%3Ewindow.hurt=1%3C/script%3E").status == 400
        assert at.page.evaluate("window.hurt") is None


def test_a_flag_holds_nothing_of_a_name() -> None:
    for name in (SCRIPT, "", "\u202e", "日本", "1", "com.example/time"):
        drawn = flag(name)
        assert drawn.startswith("<svg ")
        assert "script" not in drawn
    assert flag("time") == flag("time") != flag("fetch")
    assert "search" in ICONS


def test_unseen_characters_are_spelt_out_and_others_stay() -> None:
    assert visible("a\u202eb\x1b[31m") == "a\\u202eb\\u001b[31m"
    assert visible("naïve 日本語 — ok\n\ttab") == "naïve 日本語 — ok\n\ttab"
