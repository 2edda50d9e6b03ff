"""Known vulnerabilities on a server's page, and what a person says about one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete

from catalog.models import Advisory, VexStatement
from catalog.store import touch
from catalog.vulnerabilities.advisories import import_advisories
from tests.web.conftest import Console
from tests.web.test_console_access import form_of

RECORD = {
    "id": "PYSEC-2026-7",
    "modified": "2026-01-01T00:00:00Z",
    "summary": "<b>Anchors</b> may drag",
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "anchor"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.0"}]}],
        }
    ],
}


@pytest.fixture
def affected(console: Console, tmp_path: Path) -> Iterator[Console]:
    (tmp_path / "PYSEC-2026-7.json").write_text(json.dumps(RECORD))
    import_advisories(console.harbour.store, tmp_path)
    yield console
    with console.harbour.store.writing() as session:
        session.exec(delete(Advisory))
        session.exec(delete(VexStatement))
        touch(session, advisories=True)


def test_a_vulnerability_is_shown_and_a_statement_takes_its_place(affected: Console) -> None:
    person = affected.person()
    page = person.get("/servers/papered").text
    assert "PYSEC-2026-7" in page
    assert "&lt;b&gt;Anchors&lt;/b&gt; may drag" in page
    assert "Known vulnerabilities" in person.get("/?source=office").text

    data = {"name": "papered", "vulnerability": "PYSEC-2026-7", "because": "inline_mitigations_already_exist"}
    form = {"_form": form_of(person)}
    assert "vex.invalid" in person.post("/do/not-affected", data={**data, **form, "statement": "short"}).text
    stated = person.post("/do/not-affected", data={**data, **form, "statement": "The anchor is never dropped here."})
    assert stated.headers["location"] == "/servers/papered?done=judged"
    assert "something else already prevents it" in person.get("/servers/papered").text
    assert "No known vulnerabilities" in person.get("/?source=office").text

    again = person.post("/do/affected-again", data={**data, **form})
    assert again.status_code == 303
    assert "Not affected" not in person.get("/servers/papered").text


def test_only_an_admin_judges(affected: Console) -> None:
    body = {
        "server": "papered",
        "vulnerability": "PYSEC-2026-7",
        "because": "component_not_present",
        "statement": "It is not there at all.",
    }
    refused = affected.bearer("operator").post("/api/vulnerabilities/not-affected", json=body)
    assert refused.json()["error"]["code"] == "console.role"
    admin = affected.bearer()
    assert admin.post("/api/vulnerabilities/not-affected", json=body).status_code == 200
    assert admin.get("/api/servers/papered").json()["vulnerabilities"]["affecting"] == 0
    withdrawn = admin.post("/api/vulnerabilities/withdraw", json={"server": "papered", "vulnerability": "PYSEC-2026-7"})
    assert withdrawn.status_code == 200
    assert admin.get("/api/servers/papered").json()["vulnerabilities"]["affecting"] == 1
