"""Who gets in, what each role may do, and what no other page can make a browser do."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import httpx2
import pytest

from harbourmaster.core import audit
from tests.web.conftest import Console
from web.access import Access, console_tokens, make_link_code
from web.errors import LoginNeeded, LoginRefused, RoleTooLow
from web.identity import SESSION_S, Who, form_token, is_form_token, role_of, sign, unsign
from web.pages.login import safe_next
from web.requests import COOKIE

KEY = b"k" * 32
PAGES = ("/", "/servers/papered", "/running", "/changes", "/audit", "/profiles", "/models", "/connect", "/settings")


def form_of(client: httpx2.Client, path: str = "/settings") -> str:
    found = re.search(r'name="form-token" content="([^"]+)"', client.get(path).text)
    assert found
    return found[1]


class Inline(HTMLParser):
    """What a page would run or style by itself; words that only look like it are none."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    @classmethod
    def of(cls, html: str) -> list[str]:
        page = cls()
        page.feed(html)
        page.close()
        return page.found

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: (value or "").strip().lower() for name, value in attrs}
        if tag == "style" or (tag == "script" and not values.get("src", "").startswith("/static/")):
            self.found.append(f"<{tag}>")
        for name, value in values.items():
            if name == "style" or name.startswith("on") or value.startswith("javascript:"):
                self.found.append(name)


# -- the pure part


def test_a_signed_text_is_good_for_its_purpose_its_time_and_its_key_alone() -> None:
    text = sign(KEY, "link", {"until": 100.0, "x": 1})
    assert unsign(KEY, "link", text, 99.0)["x"] == 1
    for key, purpose, now in ((KEY, "session", 99.0), (b"o" * 32, "link", 99.0), (KEY, "link", 100.0)):
        with pytest.raises(LoginRefused):
            unsign(key, purpose, text, now)
    body, _, mac = text.partition(".")
    for forged in (body + "A." + mac, body, "", ".", "é.é", mac + "." + body):
        with pytest.raises(LoginRefused):
            unsign(KEY, "link", forged, 1.0)


def test_form_tokens_belong_to_one_session() -> None:
    assert is_form_token(KEY, "a", form_token(KEY, "a"))
    assert not is_form_token(KEY, "b", form_token(KEY, "a"))
    assert not is_form_token(KEY, "a", "é")


def test_a_role_may_do_what_those_below_it_may() -> None:
    operator = Who("operator.x", "operator")
    assert operator.may("viewer")
    assert operator.may("operator")
    with pytest.raises(RoleTooLow):
        operator.require("admin")
    assert [role_of(n) for n in ("default", "viewer.anna", "operator.b", "laptop")] == [
        "admin",
        "viewer",
        "operator",
        "admin",
    ]


@pytest.mark.parametrize("target", ["//evil.example", "/\\evil.example", "https://evil.example", "", "x", "/a\nb"])
def test_after_logging_in_nobody_is_sent_elsewhere(target: str) -> None:
    assert safe_next(target) == "/"
    assert safe_next("/servers/time?x=1") == "/servers/time?x=1"


# -- coming in


def test_a_link_logs_in_once(console: Console) -> None:
    link = console.link
    first = httpx2.get(link)
    assert (first.status_code, first.headers["location"]) == (303, "/")
    cookie = first.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    again = httpx2.get(link)
    assert again.status_code == 401
    assert "console.login_refused" in again.text
    assert COOKIE not in again.cookies


def test_a_session_ends_by_logging_out_with_time_and_with_its_token(console: Console) -> None:
    person = console.person()
    form, cookie = form_of(person), person.cookies[COOKIE]
    assert person.post("/logout", data={"_form": form}).status_code == 303
    kept = console.client(cookies={COOKIE: cookie})
    assert kept.get("/settings").headers["location"].startswith("/login")

    viewer = console.person("viewer")
    assert viewer.get("/settings").status_code == 200
    console_tokens(console.settings).revoke("viewer.test")
    assert viewer.get("/settings").status_code == 303

    now = [1000.0]
    access = Access(console_tokens(console.settings), KEY, lambda: now[0])
    cookie = access.session_cookie(access.bearer(console.token()))
    assert access.session(cookie).role == "admin"
    now[0] += SESSION_S
    with pytest.raises(LoginNeeded):
        access.session(cookie)


def test_a_link_of_an_earlier_run_is_refused_because_nobody_knows_whether_it_was_used(console: Console) -> None:
    old = make_link_code(console.settings, now=1_000_000.0)
    with pytest.raises(LoginRefused):
        Access.of(console.settings).link(old)


def test_without_a_login_pages_lead_to_it_and_rest_says_so(console: Console) -> None:
    for path in PAGES[1:]:
        answer = httpx2.get(console.url + path)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/login?next={path}")
    for path in ("/api/servers", "/api/locked", "/api/audit", "/api/status"):
        answer = httpx2.get(console.url + path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "console.login_needed")
    assert httpx2.get(console.url + "/events/calls").status_code == 303


def test_a_wrong_token_is_refused_and_recorded(console: Console) -> None:
    answer = httpx2.post(console.url + "/login", data={"token": "hm_wrong"})
    assert answer.status_code == 401
    assert "console.login_refused" in answer.text
    assert "hm_wrong" not in answer.text
    assert audit.tail(console.settings.audit_dir, 1)[0]["event"] == "login_refused"


# -- what other pages cannot do


@pytest.mark.parametrize("path", ["/", "/api/servers", "/v0.1/servers", "/static/harbour.css", "/login"])
def test_a_name_that_is_not_ours_gets_nothing(console: Console, path: str) -> None:
    answer = httpx2.get(console.url + path, headers={"host": "evil.example:8810"})
    assert answer.status_code == 421
    assert "console.wrong_host" in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_forms_of_other_pages_are_refused_even_with_the_right_form_token(
    console: Console, headers: dict[str, str]
) -> None:
    person = console.person()
    answer = person.post("/do/enable", data={"name": "time", "_form": form_of(person)}, headers=headers)
    assert answer.status_code == 403
    assert "console.wrong_origin" in answer.text
    assert not console.locked("time").enabled


@pytest.mark.parametrize("form", ["", "x", None])
def test_a_form_without_its_token_is_refused(console: Console, form: str | None) -> None:
    person = console.person()
    data = {"name": "time"} | ({"_form": form} if form is not None else {})
    answer = person.post("/do/enable", data=data)
    assert answer.status_code == 403
    assert "console.csrf" in answer.text
    other = console.person()
    stolen = person.post("/do/enable", data={"name": "time", "_form": form_of(other)})
    assert "console.csrf" in stolen.text
    assert not console.locked("time").enabled


def test_rest_with_a_cookie_needs_the_form_token_too(console: Console) -> None:
    person = console.person()
    assert person.post("/api/locked/time/enable").json()["error"]["code"] == "console.csrf"
    assert not console.locked("time").enabled
    allowed = person.post("/api/locked/time/enable", headers={"x-form-token": form_of(person)})
    assert allowed.json() == {"enabled": True, "changed": True}


def test_every_answer_binds_the_browser(console: Console) -> None:
    person = console.person()
    for path in (*PAGES, "/nowhere", "/static/console.js", "/api/servers", "/login"):
        headers = person.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "static" in path or headers["cache-control"] == "no-store"


def test_pages_hold_no_inline_script_or_style(console: Console) -> None:
    person = console.person()
    console.record_call(server="<img src=x onerror=alert(1)>", tool="javascript:alert(1)")  # text, as text
    for path in PAGES:
        assert Inline.of(person.get(path).text) == [], path
    assert Inline.of("<style></style><script>1</script><a href=' JavaScript:1' onclick=1 style='x'>") == [
        "<style>",
        "<script>",
        "href",
        "onclick",
        "style",
    ]


def test_a_body_without_end_is_refused(console: Console) -> None:
    person = console.person()
    form = form_of(person)
    large = person.post("/do/enable", data={"name": "x" * (1 << 20), "_form": form})
    assert "console.form" in large.text
    many = "&".join(f"a{n}=1" for n in range(2000))
    headers = {"content-type": "application/x-www-form-urlencoded", "x-form-token": form}
    assert "console.form" in person.post("/do/enable", content=many, headers=headers).text
    assert "console.form" in person.post("/do/enable", json={"name": "time"}, headers={"x-form-token": form}).text


# -- roles


def test_a_viewer_looks_and_changes_nothing(console: Console) -> None:
    person = console.person("viewer")
    form = form_of(person)
    deeds = {
        "/do/enable": {"name": "time"},
        "/do/disable": {"name": "papered"},
        "/do/configure": {"name": "papered", "param.port": "Bergen"},
        "/do/secret": {"name": "papered", "secret": "papered.key", "value": "v"},
        "/do/approve": {"name": "time", "pin": "x"},
        "/do/connect": {"client": "cursor"},
        "/do/profile/create": {"name": "work"},
        "/do/source/add": {"name": "x", "kind": "servers", "location": "/tmp"},
        "/do/sandbox/stop": {"id": "x"},
    }
    before = console.settings.lock_file.read_bytes()
    for path, data in deeds.items():
        answer = person.post(path, data={**data, "_form": form})
        assert (answer.status_code, "console.role" in answer.text) == (403, True), path
    assert console.settings.lock_file.read_bytes() == before
    page = person.get("/servers/papered").text
    assert "/do/disable" not in page
    assert "hm_" not in page  # the gateway's token is in no snippet of theirs


def test_only_an_admin_approves(console: Console) -> None:
    pin = console.harbour.held()[0].pin
    operator = console.person("operator")
    assert (
        "console.role"
        in operator.post("/do/approve", data={"name": "time", "pin": pin, "_form": form_of(operator)}).text
    )
    assert operator.post("/do/enable", data={"name": "time", "_form": form_of(operator)}).status_code == 303
