"""Refused logins, which anybody can make without end: an image on any web page is enough."""

from __future__ import annotations

from starlette.testclient import TestClient

from harbourmaster.core.audit_search import matcher, search
from tests.web.conftest import Console
from web.app import create_app
from web.pages.login import MOST_REFUSED, SPAN_S, Refused

REFUSED = matcher(["event=login_refused"])


def test_a_flood_of_refused_logins_is_a_few_records(console: Console) -> None:
    before = len(search(console.settings.audit_dir, REFUSED, 10_000))
    client = TestClient(create_app(console.harbour), base_url="http://127.0.0.1")
    for number in range(MOST_REFUSED * 2):
        assert client.get(f"/enter/made-up-{number}").status_code == 401
        assert client.post("/login", data={"token": "wrong"}).status_code == 401
    assert len(search(console.settings.audit_dir, REFUSED, 10_000)) - before == MOST_REFUSED


def test_what_was_not_on_record_one_by_one_is_counted_in_the_next_minute() -> None:
    now = 0.0
    refused = Refused(lambda: now)
    assert [refused.note() for _ in range(MOST_REFUSED + 5)] == [1] * MOST_REFUSED + [0] * 5
    now += SPAN_S
    assert [refused.note(), refused.note()] == [6, 1]
    now += SPAN_S
    assert refused.note() == 1
