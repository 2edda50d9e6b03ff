"""Drafts of entries, on the pages that make a patch of them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harbourmaster.core.settings import PROJECT_ROOT
from tests.web.conftest import Console, entry, import_entries
from tests.web.test_console_access import form_of


@pytest.fixture
def draft(console: Console) -> Iterator[str]:
    """As a look-up leaves it; look-ups themselves are tested where they are."""
    folder = console.settings.home / "submissions" / "tide-table"
    folder.mkdir(parents=True)
    source = PROJECT_ROOT / "registry" / "servers" / "time"
    text = (source / "server.yaml").read_text().replace("name: time\n", "name: tide-table\n")
    (folder / "server.yaml").write_text(text)
    shutil.copy(source / "requirements.lock", folder)
    yield text
    shutil.rmtree(folder, ignore_errors=True)


def verdict(html: str) -> str:
    return re.sub(r"<[^>]+>|\s+", " ", html.split('id="verdict"')[1].split("</section>")[0])


def test_a_draft_is_checked_as_it_is_written(console: Console, draft: str) -> None:
    person = console.person("operator")
    assert "/submit/tide-table" in person.get("/submit").text
    assert "Nothing to mend" in verdict(person.get("/submit/tide-table").text)
    data = {"name": "tide-table", "document": draft.replace("type: server", "type: sever"), "_form": form_of(person)}
    wrong = person.post("/do/submit/save", data=data)
    assert wrong.status_code == 200
    assert "server.yaml:2: type:" in verdict(wrong.text)
    assert "entry.invalid" in verdict(wrong.text)
    assert str(console.settings.home) not in verdict(wrong.text)
    right = person.post("/do/submit/save", data={**data, "document": draft.replace("\n", "\r\n")})
    assert "Nothing to mend" in verdict(right.text)


def test_the_patch_is_one_that_git_applies(console: Console, draft: str, tmp_path: Path) -> None:
    patch = console.person("viewer").get("/submit/tide-table/patch")
    assert patch.headers["content-disposition"] == 'attachment; filename="tide-table.patch"'
    (tmp_path / "p.patch").write_bytes(patch.content)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["git", "-C", tmp_path, "apply", "--check", "p.patch"], check=True)
    subprocess.run(["git", "-C", tmp_path, "apply", "p.patch"], check=True)
    placed = tmp_path / "registry" / "servers" / "tide-table"
    assert (placed / "server.yaml").read_text() == draft
    assert (placed / "requirements.lock").read_bytes()


@pytest.mark.parametrize("name", ["../../keys", "..", "tide-table/../../keys", "nobody", ""])
def test_no_name_of_a_draft_leads_anywhere_else(console: Console, draft: str, name: str) -> None:
    person = console.person("operator")
    for path in ("/do/submit/save", "/do/submit/drop"):
        answer = person.post(path, data={"name": name, "document": "x", "_form": form_of(person)})
        assert (answer.status_code, "console.draft_unknown" in answer.text) == (404, True)
    assert (console.settings.home / "submissions" / "tide-table" / "server.yaml").read_text() == draft


def test_a_draft_is_thrown_away(console: Console, draft: str) -> None:
    person = console.person("operator")
    assert person.post("/do/submit/drop", data={"name": "tide-table", "_form": form_of(person)}).status_code == 303
    assert person.get("/submit/tide-table").status_code == 404


def test_an_origin_that_there_is_not_and_a_name_that_is_taken_are_refused(console: Console) -> None:
    person = console.person("operator")
    form = form_of(person)
    data = {"kind": "floppy", "place": "disk", "_form": form}
    assert "console.form" in person.post("/do/submit/begin", data=data).text
    taken = person.post("/do/submit/begin", data={"kind": "pypi", "place": "x", "name": "time", "_form": form})
    assert "there is a server time already" in taken.text


def test_two_versions_are_compared_by_what_the_source_wrote(console: Console) -> None:
    versions = [
        entry("com.example/ferry", version=number, document=document, is_latest=latest, images=(), digest=number)
        for number, document, latest in (
            ("1.0", b'{"tools": ["sail"], "same": 1}', False),
            ("2.0", b'{"tools": ["sail", "<b>sink</b>"], "same": 1}', True),
        )
    ]
    import_entries(console.harbour, "ferries", *versions)
    person = console.person("viewer")
    page = person.get("/servers/com.example/ferry").text
    link = re.search(r'href="(/versions/com\.example/ferry\?[^"]+)"', page)
    assert link
    shown = person.get(link[1].replace("&amp;", "&")).text
    assert "+    &#34;&lt;b&gt;sink&lt;/b&gt;&#34;" in shown
    assert person.get("/versions/com.example/ferry?old=0&new=2.0").status_code == 404


def test_rest_does_the_same(console: Console, draft: str) -> None:
    api = console.bearer("operator")
    assert api.get("/api/drafts").json() == ["tide-table"]
    wrong = api.put("/api/drafts/tide-table", json={"document": "name: tide-table\n"}).json()
    assert wrong["findings"][0]["level"] == "bad"
    right = api.put("/api/drafts/tide-table", json={"document": draft}).json()
    assert (right["findings"], right["files"]) == ([], ["requirements.lock", "server.yaml"])
    assert api.get("/api/drafts/tide-table/patch").text.startswith("diff --git a/registry/servers/tide-table/")
    assert api.post("/api/drafts", json={"kind": "floppy", "place": "x"}).json()["error"]["code"] == "console.form"
    assert api.delete("/api/drafts/tide-table").json() == {"dropped": "tide-table"}
    assert api.get("/api/drafts/tide-table").status_code == 404
