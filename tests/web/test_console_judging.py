"""What people decide: about a known vulnerability, and about a call that waits for them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete

from catalog.models import Advisory, VexStatement
from catalog.store import touch
from catalog.vulnerabilities.advisories import import_advisories
from gateway.authorization.held_calls import forget, hold
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


@pytest.fixture
def held(console: Console) -> Iterator[str]:
    """A call that a gateway (this process) holds."""
    folder, now = console.settings.approvals_dir, time.time()
    because = [{"policy": "ask.writes", "reason": "it writes <b>files</b>"}]
    facts = {"principal": "laptop", "client": "<i>robot</i>", "server": "papered", "tool": "chart", "because": because}
    hold(folder, "0badcafe", {**facts, "arguments": '{"path": "/tmp/x"}', "since": now, "until": now + 300})
    yield "0badcafe"
    forget(folder, "0badcafe")


def test_a_call_that_waits_is_shown_with_its_reason_and_answered(console: Console, held: str) -> None:
    person = console.person("operator")
    page = person.get("/running/waiting").text
    for words in ("&lt;i&gt;robot&lt;/i&gt;", "it writes &lt;b&gt;files&lt;/b&gt;", "/tmp/x", "Allow this one call"):
        assert words in page
    data = {"id": held, "answer": "yes", "_form": form_of(person)}
    assert person.post("/do/call/answer", data=data).headers["location"] == "/running?done=allowed"
    assert (console.settings.approvals_dir / f"{held}.yes").exists()
    assert not (console.settings.approvals_dir / f"{held}.no").exists()


def test_a_viewer_sees_that_a_call_waits_and_not_what_it_carries(console: Console, held: str) -> None:
    viewer = console.bearer("viewer")
    assert [(w["id"], w["arguments"]) for w in viewer.get("/api/waiting").json()] == [(held, "")]
    assert viewer.post(f"/api/waiting/{held}/allow").json()["error"]["code"] == "console.role"
    operator = console.bearer("operator")
    assert operator.post("/api/waiting/..%2F..%2Fx/allow").status_code == 404
    assert operator.post("/api/waiting/deadbeef/allow").json()["error"]["code"] == "approval.unknown"
    assert operator.post(f"/api/waiting/{held}/refuse").json() == {"refused": held}
    assert (console.settings.approvals_dir / f"{held}.no").exists()
