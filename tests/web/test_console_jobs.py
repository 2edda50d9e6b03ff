"""Work in the background: one at a time, followed on the page, and honest about how it ended."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from gateway.lock import update_lock
from harbourmaster.core.errors import EngineError
from tests.web.browsing import chromium_browser, person
from tests.web.conftest import Console, entry, import_entries, locked
from tests.web.test_console_access import form_of
from web.jobs import Job, Jobs, Say


@pytest.fixture(scope="module")
def browser(chromium: Path) -> Iterator[Browser]:
    with chromium_browser(chromium) as found:
        yield found


def finished(jobs: Jobs, job: Job) -> Job:
    for thread in threading.enumerate():
        if thread.name == f"job-{job.server}":
            thread.join(30)
    return job


def test_one_job_at_a_time_and_one_of_a_server() -> None:
    jobs, go, order = Jobs(), threading.Event(), []

    def slow(say: Say) -> None:
        say("half way")
        go.wait(30)
        order.append("slow")

    first = jobs.start("a", "build", slow)
    second = jobs.start("b", "build", lambda say: order.append("b"))
    assert jobs.start("a", "build", lambda say: order.append("never")) is first
    assert second.state == "waiting"
    go.set()
    assert finished(jobs, first).state == finished(jobs, second).state == "done"
    assert order == ["slow", "b"]
    assert first.stage == "half way"


def test_a_job_that_fails_says_why_and_may_be_begun_again() -> None:
    def refused(say: Say) -> None:
        raise EngineError("no engine", remedy="start one")

    def broken(say: Say) -> None:
        raise RuntimeError("secret words")

    jobs = Jobs()
    job = finished(jobs, jobs.start("a", "build", refused))
    assert (job.state, job.error and job.error.code) == ("failed", "engine.failed")
    job = finished(jobs, jobs.start("a", "build", broken))
    assert job.error
    assert job.error.code == "console.fault"
    assert "secret words" not in job.error.message


def test_a_server_that_is_not_built_is_built_from_its_page(browser: Browser, console: Console) -> None:
    """The builder has its own tests; here it is one that ends when it is told to."""
    go = threading.Event()

    def build(name: str, say: Say) -> None:
        say("assemble")
        go.wait(60)
        update_lock(console.settings.lock_file, lambda lock: lock.update({name: locked(name)}))

    own = console.harbour.build
    object.__setattr__(console.harbour, "build", build)
    with contextlib.ExitStack() as after:
        after.callback(object.__setattr__, console.harbour, "build", own)
        at = after.enter_context(person(browser, console, "operator"))
        at.go("/servers/git")
        at.page.get_by_role("button", name="Build it here").click()
        expect(at.page.get_by_text("Building it here: assemble")).to_be_visible()
        go.set()
        expect(at.page.get_by_role("button", name="Disable")).to_be_visible()
        expect(at.page.get_by_role("button", name="Build it here")).to_have_count(0)


def test_taking_over_needs_an_admin_and_an_engine(console: Console) -> None:
    import_entries(console.harbour, "elsewhere", entry("skiff", title="Skiff", tier="community", images=()))
    assert "/do/adopt" not in console.person("operator").get("/servers/skiff").text
    person = console.person()
    assert "Verify it and take it over" in person.get("/servers/skiff").text
    assert person.post("/do/adopt", data={"name": "skiff", "_form": form_of(person)}).status_code == 303
    job = console.harbour.jobs.of("skiff")
    assert job
    assert finished(console.harbour.jobs, job).state == "failed"
    page = person.get("/servers/skiff").text
    assert job.error
    assert job.error.code in re.sub("<[^>]+>", "", page)
    said = console.bearer("viewer").get("/api/jobs/skiff").json()
    assert (said["state"], said["error"]["code"]) == ("failed", job.error.code)
    assert dataclasses.is_dataclass(job)


@pytest.mark.parametrize("name", ["atlantis", "../../etc", "com.example/x", "."])
def test_a_job_is_for_a_server_that_there_is(console: Console, name: str) -> None:
    person = console.person()
    form = form_of(person)
    for path, code in (("/do/build", "server.unknown"), ("/do/adopt", "entry.unknown")):
        answer = person.post(path, data={"name": name, "_form": form})
        assert (answer.status_code, code in answer.text) == (404, True)
    assert console.harbour.jobs.of(name) is None
