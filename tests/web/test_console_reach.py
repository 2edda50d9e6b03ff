"""Remote servers and logins to them, folders of this machine, publishing from a page."""

from __future__ import annotations

import asyncio
import contextlib
import html
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import expect
from sqlalchemy import delete

from catalog.models import CatalogEntry
from catalog.publishing import published
from catalog.store import touch
from gateway.lock import pin_of, write_lock
from gateway.remote.oauth.grant import Vault
from gateway.remote.oauth.redirect import Redirect
from gateway.remote.spec import RemoteSpec
from harbourmaster.core import audit
from harbourmaster.core.secrets import SecretStore
from harbourmaster.up import remote as up_remote
from registry.places import adopted_dir
from tests.gateway.elsewhere import Elsewhere
from tests.gateway.provider import Guarded, agree, provider
from tests.web.browsing import chromium_browser, person
from tests.web.conftest import LISTING, LOCK, Console, locked
from tests.web.test_console_access import form_of

FAR = "https://far.example.com/mcp"


def far(url: str = FAR, **more: Any) -> Any:
    run = {"remote": {"url": url, "transport": "streamable-http", "headers": {}, **more}, "network": {"hosts": []}}
    return locked("far", tier="remote", image="", image_id="", signer="", run=run, pin=pin_of(LISTING))


@pytest.fixture
def with_far(console: Console) -> Console:
    write_lock(console.settings.lock_file, {**LOCK, "far": far()})
    return console


# -- remote servers


def test_a_remote_server_says_whether_somebody_is_logged_in_and_no_token(with_far: Console) -> None:
    page = with_far.person("viewer").get("/remote").text
    assert "far.example.com" in page
    assert "Not logged in" in page
    assert "/do/remote/login" not in page, "a viewer only looks"
    (row,) = with_far.bearer("viewer").get("/api/remote").json()
    assert (row["name"], row["login"], row["going_on"]) == ("far", None, None)


def test_logins_need_the_role_and_a_form_of_ours(with_far: Console) -> None:
    viewer, operator = with_far.person("viewer"), with_far.person("operator")
    refused = viewer.post("/do/remote/login", data={"name": "far", "_form": form_of(viewer)})
    assert (refused.status_code, "console.role" in refused.text) == (403, True)
    forged = operator.post("/do/remote/login", data={"name": "far", "_form": "x"})
    assert "console.csrf" in forged.text
    connect = operator.post("/do/remote/connect", data={"name": "far", "_form": form_of(operator)})
    assert "console.role" in connect.text, "connecting is an admin's"
    here = operator.post("/do/remote/login", data={"name": "papered", "_form": form_of(operator)})
    assert "runs here" in here.text


@pytest.mark.parametrize("query", ["", "code=x", "code=x&state=", "code=x&state=guessed", "state=a&state=b"])
def test_an_answer_that_nobody_asked_for_is_refused(console: Console, query: str) -> None:
    answer = console.client().get(f"/remote/callback?{query}")

    assert answer.status_code == 403
    assert "remote.oauth" in answer.text or "oauth" in answer.text


@dataclass
class Waiting:
    """A login of ``far`` that waits for its person."""

    console: Console
    answers: list[dict[str, str]]
    ends: Callable[[], None]


@pytest.fixture
def waiting(with_far: Console) -> Iterator[Waiting]:
    answers: list[dict[str, str]] = []

    def work(redirect: Redirect) -> None:
        answers.append(asyncio.run(redirect.answer("https://login.example.org/authorize?x=1", "s3cret-state")))

    login = with_far.harbour.logins.start("far", f"{with_far.url}/remote/callback", work)
    assert login.state == "waiting"
    yield Waiting(with_far, answers, lambda: login.until("done", seconds=20))
    if login.active:
        with_far.client().get("/remote/callback?code=x&state=s3cret-state")
        login.until("done", "failed", seconds=20)


def test_the_page_names_where_it_sends_a_person_and_the_answer_counts_once(waiting: Waiting) -> None:
    console = waiting.console
    page = console.person("operator").get("/remote").text
    assert "It waits for you at <strong>login.example.org</strong>" in page
    assert 'href="https://login.example.org/authorize?x=1"' in page
    assert "s3cret-state" not in console.person("viewer").get("/remote").text
    assert "login.example.org/authorize" not in console.person("viewer").get("/remote").text

    stranger = console.client()  # as the browser comes: from another site, without a session
    back = stranger.get("/remote/callback?code=the-code&state=s3cret-state")

    assert back.status_code == 200
    assert "You are logged in to <strong>far</strong>" in back.text
    assert "the-code" not in back.text
    assert waiting.answers == [{"code": "the-code", "state": "s3cret-state"}]
    assert stranger.get("/remote/callback?code=again&state=s3cret-state").status_code == 403


def test_a_second_login_of_the_same_server_is_the_first(waiting: Waiting) -> None:
    console = waiting.console
    operator = console.bearer("operator")
    answer = operator.post("/api/remote/far/login").json()
    assert answer == {
        "server": "far",
        "state": "waiting",
        "url": "https://login.example.org/authorize?x=1",
        "error": None,
    }


def test_a_viewer_cannot_take_a_login_that_waits_over_and_log_everybody_in_as_themselves(waiting: Waiting) -> None:
    (row,) = waiting.console.bearer("viewer").get("/api/remote").json()
    assert row["going_on"] == {"server": "far", "state": "waiting", "url": "", "error": None}
    (row,) = waiting.console.bearer("operator").get("/api/remote").json()
    assert row["going_on"]["url"] == "https://login.example.org/authorize?x=1"


def test_connecting_again_does_not_take_what_a_locked_server_changed_in_silence(with_far: Console) -> None:
    before = with_far.locked("far")
    admin = with_far.person()
    again = admin.post("/do/remote/connect", data={"name": "far", "_form": form_of(admin)})
    assert "connected already" in again.text
    assert with_far.bearer("admin").post("/api/remote/far/connect").status_code == 400
    assert with_far.locked("far") == before
    going_on = with_far.harbour.logins.of("far")
    assert going_on is None or not going_on.active


def test_a_waiting_login_in_a_real_browser(waiting: Waiting, chromium: Path) -> None:
    with chromium_browser(chromium) as browser, person(browser, waiting.console) as at:
        at.go("/remote")
        link = at.page.get_by_role("link", name="Continue at login.example.org")
        expect(link).to_be_visible()
        waiting.console.client().get("/remote/callback?code=x&state=s3cret-state")
        waiting.ends()
        expect(link).to_have_count(0)  # the page looks again by itself
        expect(at.page.get_by_role("button", name="Log in")).to_be_visible()


@contextlib.contextmanager
def guarded(place: Path) -> Iterator[Guarded]:
    """A server that wants tokens of a real provider, beside the test on a loop of its own."""
    guard, up, over = Guarded(), threading.Event(), threading.Event()

    async def serve() -> None:
        async with Elsewhere(guard.script).running() as server:
            guard.url = server.url
            async with provider(place, server.url) as guard.issuer:
                up.set()
                await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert up.wait(60), "the provider did not start"
        yield guard
    finally:
        over.set()
        thread.join(30)


@pytest.mark.npm
def test_a_person_logs_in_to_a_real_provider_from_the_console_and_out_again(console: Console, tmp_path: Path) -> None:
    settings = console.settings
    with guarded(tmp_path / "provider") as guard:
        private = [RemoteSpec(guard.url).host, RemoteSpec(guard.issuer).host]
        up_remote.keep(settings, up_remote.draft(settings, "far", {"remote": {"url": guard.url, "private": private}}))
        operator, admin = console.person("operator"), console.person()
        begun = admin.post("/do/remote/connect", data={"name": "far", "_form": form_of(admin)})
        assert begun.headers["location"] == "/servers/far"

        url = follow(operator, guard.issuer)
        back = console.client().get(asyncio.run(agree(url)))
        assert "You are logged in to" in back.text, back.text

        assert console.locked("far").enabled
        assert [t["name"] for t in console.locked("far").listing["tools"]] == ["echo"]
        (row,) = console.bearer("viewer").get("/api/remote").json()
        assert row["login"]["issuer"] == guard.issuer
        assert row["login"]["scopes"] == ["read"]
        token = Vault(lambda: SecretStore.of(settings), "far").load()
        assert token is not None
        page = operator.get("/remote").text
        assert "Logged in" in page
        assert token.access_token not in page + json.dumps(row)

        out = operator.post("/do/remote/logout", data={"name": "far", "_form": form_of(operator)})
        assert out.headers["location"] == "/remote?done=out"
        assert "Not logged in" in operator.get("/remote").text
        events = [r["event"] for r in audit.tail(settings.audit_dir, 50) if r.get("server") == "far"]
        assert events[-5:] == ["connect", "login", "update", "logout", "logout"]
    (adopted_dir(settings) / "far" / "server.yaml").unlink()


def follow(client: httpx2.Client, issuer: str) -> str:
    """Where the page sends the person, once it knows."""
    found = re.search(rf'href="({re.escape(issuer)}[^"]*)"', client.get("/remote/visit/far").text)
    assert found, "the page names no place to log in"
    return html.unescape(found[1])


# -- folders


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "notes"
    place.mkdir()
    return place


def test_a_folder_is_given_shown_and_taken_back(console: Console, folder: Path) -> None:
    admin = console.person()
    form = {"_form": form_of(admin), "server": "papered", "path": str(folder)}
    given = admin.post("/do/folder/give", data={**form, "inside": "/notes", "write": "yes"})
    assert given.headers["location"] == "/folders?done=given"
    assert console.locked("papered").granted == [f"{folder}:/notes:rw"]
    page = admin.get("/folders").text
    assert "read and written" in page
    assert "<code>/notes</code>" in page
    (row,) = console.bearer("viewer").get("/api/folders").json()["papered"]
    assert (row["host"], row["at"], row["write"], row["given"]) == (str(folder), "/notes", True, True)

    folder.rmdir()
    assert "not given" in admin.get("/folders").text, "what is not there is not mounted"
    taken = admin.post("/do/folder/take", data=form)
    assert taken.headers["location"] == "/folders?done=taken"
    assert console.locked("papered").granted == []
    events = [r["event"] for r in audit.tail(console.settings.audit_dir, 4)]
    assert events == ["folder_given", "paths", "folder_taken", "paths"]


def test_what_nobody_is_given_is_refused_with_the_reason_and_only_admins_give(console: Console, folder: Path) -> None:
    admin, operator = console.person(), console.person("operator")
    form = {"_form": form_of(admin), "server": "papered"}
    for path in ("/", "/proc", str(console.settings.home), f"{folder}:/x", "notes"):
        answer = admin.post("/do/folder/give", data={**form, "path": path})
        assert answer.status_code >= 400, path
    refused = operator.post(
        "/do/folder/give", data={"_form": form_of(operator), "server": "papered", "path": str(folder)}
    )
    assert "console.role" in refused.text
    assert "/do/folder/give" not in operator.get("/folders").text
    assert console.bearer("operator").post("/api/locked/papered/folders", json={"path": str(folder)}).status_code == 403
    assert console.locked("papered").granted == []


def test_what_an_entry_asks_for_stands_there_with_its_reason(console: Console, folder: Path) -> None:
    asks = {"host_paths": {"value": [f"{folder}:/data", "/nowhere/at/all:/gone"], "reason": "it reads your notes"}}
    write_lock(console.settings.lock_file, {**LOCK, "asks": locked("asks", run={"asked": asks})})

    page = console.person("viewer").get("/folders").text

    assert page.count("because: it reads your notes") == 2
    assert "No such file" in page
    assert console.bearer("viewer").get("/api/folders").json()["asks"][1]["given"] is False


# -- publishing

SERVER = {
    "$schema": "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json",
    "name": "io.github.acme/weather",
    "description": "Says what the weather is",
    "version": "1.0.0",
    "remotes": [{"type": "streamable-http", "url": "https://weather.example.com/mcp"}],
}


@pytest.fixture
def publishing(console: Console) -> Iterator[Console]:
    yield console
    with console.harbour.store.writing() as session:
        session.exec(delete(CatalogEntry).where(CatalogEntry.name == SERVER["name"]))  # type: ignore[arg-type]
        touch(session)


def test_a_server_json_is_published_deprecated_and_restored_on_a_page(publishing: Console) -> None:
    admin = publishing.person()
    form = {"_form": form_of(admin)}
    document = json.dumps(SERVER, indent=1)
    answer = admin.post("/do/publish", data={**form, "document": document})
    assert answer.headers.get("location") == "/publish?done=published", answer.text
    page = admin.get("/publish").text
    assert "io.github.acme/weather" in page
    served = publishing.client().get(f"/v0.1/servers/{SERVER['name'].replace('/', '%2F')}/versions/1.0.0")  # type: ignore[attr-defined]
    assert served.json()["server"] == SERVER

    again = admin.post("/do/publish", data={**form, "document": document})
    assert again.status_code == 400
    assert "catalog.version_published" in again.text or "published already" in again.text
    assert "Says what the weather is" in again.text, "what was written is still there"

    row = {**form, "name": SERVER["name"], "version": "1.0.0", "status": "deprecated", "message": "use another"}
    assert admin.post("/do/publish/status", data=row).headers["location"] == "/publish?done=status"
    (found,) = [p for p in _published(publishing) if p["name"] == SERVER["name"]]
    assert found["status"] == "deprecated"


def _published(console: Console) -> list[dict[str, Any]]:
    return published(console.harbour.store)


def test_what_could_not_run_safely_is_not_published_and_only_admins_publish(publishing: Console) -> None:
    admin, operator = publishing.person(), publishing.person("operator")
    for document in (
        "",
        "{",
        "[]",
        '{"name": "x"}',
        json.dumps({**SERVER, "remotes": [{"type": "sse", "url": "ftp://x"}]}),
    ):
        assert admin.post("/do/publish", data={"_form": form_of(admin), "document": document}).status_code == 400
    refused = operator.post("/do/publish", data={"_form": form_of(operator), "document": json.dumps(SERVER)})
    assert "console.role" in refused.text
    assert "/do/publish" not in operator.get("/publish").text
    assert [p for p in _published(publishing) if p["name"] == SERVER["name"]] == []


def test_folders_and_publishing_in_a_real_browser_without_scripts(
    publishing: Console, folder: Path, chromium: Path
) -> None:
    with (
        chromium_browser(chromium) as browser,
        person(browser, publishing, java_script_enabled=False) as at,
    ):
        at.go("/servers/papered")
        at.page.get_by_role("link", name="Folders of this machine").click()
        expect(at.page.get_by_label("Server", exact=True)).to_have_value("papered")
        at.page.get_by_label("Folder or file of this machine").fill(str(folder))
        at.page.get_by_role("button", name="Give it").click()
        expect(at.page.locator("#notices")).to_contain_text("from its next sandbox on")
        expect(at.page.locator("#of-papered")).to_contain_text(str(folder))
        at.go("/servers/papered")
        expect(at.page.locator("#sail")).to_contain_text(f"{folder} (to read)")
        at.go("/folders")
        at.page.get_by_role("button", name="Take it back").click()
        expect(at.page.locator("#of-papered")).to_have_count(0)

        at.go("/publish")
        at.page.get_by_label("server.json").fill('{"name": "x"}')
        at.page.get_by_role("button", name="Publish it").click()
        expect(at.page.get_by_role("alert")).to_contain_text("What to do")
        expect(at.page.get_by_label("server.json")).to_have_value('{"name": "x"}')
        at.page.get_by_label("server.json").fill(json.dumps(SERVER))
        at.page.get_by_role("button", name="Publish it").click()
        expect(at.page.locator("#published")).to_contain_text("io.github.acme/weather")
        at.page.get_by_text("Change", exact=True).click()
        at.page.get_by_label("Status", exact=True).select_option("deprecated")
        at.page.get_by_role("button", name="Set it").click()
        expect(at.page.locator("#published")).to_contain_text("Deprecated")
