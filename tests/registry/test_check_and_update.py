"""``hm registry new``, ``check`` and ``update`` without an engine: look-ups, verdicts, proposals; and the workflow's rights."""

from __future__ import annotations

import contextlib
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from gitproject import ADDRESS, entry_at, git
from ociserver import OciServer
from tinyimages import files, put_image

from harbourmaster.cli import main
from harbourmaster.core.errors import UsageError
from harbourmaster.core.settings import PROJECT_ROOT
from registry import differences
from registry.changed import changed_entries, default_base
from registry.lookup import git as git_lookup
from registry.lookup import images, npm, pypi, remote
from registry.lookup.errors import LookupMissing, LookupUnavailable, LookupUnusable
from registry.oci.layout import OciLayout
from registry.oci.remote import Remote
from registry.schema import load_entry, parse_entry
from registry.update import newest_pins, propose, repinned
from registry.wizard import Wishes, write_new

WORKFLOW = PROJECT_ROOT / ".github" / "workflows" / "registry-check.yaml"
pytestmark = pytest.mark.usefixtures("home")


def hm(*arguments: str) -> int:
    try:
        main(["registry", *arguments])
    except SystemExit as e:
        return int(e.code or 0)
    return 0


@pytest.fixture
def work(repository: Path, tmp_path: Path) -> Path:
    """A clone with a base branch and one entry on it, from git and locked."""
    place = tmp_path / "work"
    root = place / "servers"
    root.mkdir(parents=True)
    git(place, "init", "--quiet", "--initial-branch=main")
    entry_at(root, git(repository, "rev-parse", "HEAD"))
    for name in ("requirements.lock", "build-requirements.lock"):
        (root / "ahoy" / name).write_text("")
    git(place, "add", ".")
    git(place, "commit", "--quiet", "--message=Base")
    git(place, "checkout", "--quiet", "-b", "mine")
    return root


def report(root: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    status = hm("check", "--changed", "--base", "main", "--root", str(root), "--no-build", "--json", *more)
    return status, json.loads(capsys.readouterr().out)


def verdicts(entry: dict[str, Any]) -> dict[str, str]:
    return {v["check"]: v["word"] for v in entry["verdicts"]}


def test_what_a_branch_does_not_touch_is_not_checked(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, body = report(work, capsys)

    assert (status, body["entries"]) == (0, [])


def test_each_check_of_a_changed_entry_has_a_verdict(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = work / "ahoy" / "server.yaml"
    file.write_text(file.read_text().replace("run: {command: [mcp-server-ahoy]}\n", RUN))

    status, body = report(work, capsys)

    (entry,) = body["entries"]
    assert status == 0
    assert verdicts(entry) == {"form": "pass", "source": "pass", "licence": "pass", "tier": "pass", "build": "skip"}
    assert entry["sections"]["What it may touch"] == [
        "+ network: api.example.com:443",
        "+ sandbox: memory_mb 1024, because it holds a large dictionary",
    ]


RUN = """run:
  command: [mcp-server-ahoy]
  network: {hosts: ["api.example.com:443"]}
  sandbox: {memory_mb: {value: 1024, reason: it holds a large dictionary}}
"""


def test_a_pin_that_its_publisher_does_not_serve_fails(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = work / "ahoy" / "server.yaml"
    file.write_text(file.read_text().replace(load_entry(work / "ahoy").recipe()[0].commit or "", "7" * 40))

    status, body = report(work, capsys)

    assert status == 1
    assert verdicts(body["entries"][0])["source"] == "fail"
    assert "lookup.not_found" in json.dumps(body)
    assert report(work, capsys, "--offline")[1]["entries"][0]["verdict"] == "skip"


def test_moving_to_another_tier_is_said_and_checked_as_that_tier(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = work / "ahoy" / "server.yaml"
    head = file.read_text().partition("source:")[0].replace("tier: built", "tier: community")
    with OciServer() as server:
        layout = OciLayout(work.parent / "image")
        digest = put_image(layout, files(hello=b"hi"), tag="x")
        Remote().push(layout, digest, f"{server.host}/acme/ahoy:1")
        file.write_text(f"{head}image: {server.host}/acme/ahoy:1@{digest}\nrun: {{offline: true}}\n")
        for path in file.parent.glob("*.lock"):
            path.unlink()

        status, body = report(work, capsys)

    (entry,) = body["entries"]
    assert status == 0, body
    assert verdicts(entry)["source"] == "pass"
    assert "built to community" in next(v["detail"] for v in entry["verdicts"] if v["check"] == "tier")


def test_new_removed_broken_and_foreign_changes_are_all_in_the_report(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in sorted((work / "ahoy").iterdir()):
        path.unlink()
    (work / "ahoy").rmdir()
    (work / "bad").mkdir()
    (work / "bad" / "server.yaml").write_text("name: bad\n")
    (work.parent / "README.md").write_text("hello")

    status, body = report(work, capsys)

    assert status == 1
    assert [(e["name"], e["verdict"]) for e in body["entries"]] == [("bad", "fail")]
    assert any("ahoy is removed" in note for note in body["notes"])
    assert any("README.md" in note for note in body["notes"])


def test_a_base_that_is_not_there_is_a_usage_error(work: Path) -> None:
    with pytest.raises(UsageError, match="git"):
        changed_entries(work, "no-such-branch")
    with pytest.raises(UsageError):
        changed_entries(work, "--upload-pack=id")
    with pytest.raises(UsageError):
        changed_entries(work / "nowhere", "main")


def test_the_pull_requests_base_is_compared_with() -> None:
    assert default_base({"GITHUB_BASE_REF": "release"}) == "origin/release"
    assert default_base({}) == "origin/main"


def test_new_writes_what_it_found_and_says_what_is_left(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "servers"

    assert hm("new", "--git", ADDRESS, "--directory", "server", "--root", str(root)) == 0

    assert "test.calls is not written yet" in capsys.readouterr().out
    entry = load_entry(root / "ahoy")
    assert entry.source is not None
    assert entry.source.commit == git(repository, "rev-parse", "HEAD")
    assert (entry.about.description, entry.licence) == ("Says ahoy.", "MIT")
    assert hm("lint", "--root", str(root)) == 1
    assert hm("new", "--git", ADDRESS, "--directory", "server", "--root", str(root)) == 2, "nothing is written over"


def test_new_pins_an_image_by_the_digest_that_its_tag_has_now(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with OciServer() as server:
        layout, labels = OciLayout(tmp_path / "image"), {"org.opencontainers.image.licenses": "MIT"}
        digest = put_image(layout, files(hello=b"hi"), config={"Cmd": ["/hello"], "User": "root", "Labels": labels})
        Remote().push(layout, digest, f"{server.host}/acme/ahoy:1")
        assert hm("new", "--image", f"{server.host}/acme/ahoy:1", "--root", str(tmp_path / "servers")) == 0
        found = images.look_up(f"{server.host}/acme/ahoy:1")

    entry = load_entry(tmp_path / "servers" / "ahoy")
    assert entry.image == found.image == f"{server.host}/acme/ahoy:1@{digest}"
    assert found.licence == "MIT"
    assert "root" in capsys.readouterr().out


def test_new_asks_for_one_place_to_come_from(tmp_path: Path) -> None:
    assert hm("new", "--pypi", "a", "--npm", "b", "--root", str(tmp_path)) == 2
    assert hm("new", "--root", str(tmp_path)) == 2, "nobody is there to ask"


@pytest.mark.slow
def test_a_python_package_is_looked_up_by_its_wheel() -> None:
    found = pypi.look_up("mcp-server-time", "2026.10.19")

    starter = load_entry(PROJECT_ROOT / "registry" / "servers" / "time")
    assert starter.source is not None
    assert found.source["sha256"] == starter.source.sha256
    assert (found.command, found.licence) == (("mcp-server-time",), "MIT")
    with pytest.raises(LookupMissing):
        pypi.look_up("mcp-server-time", "1999.1.1")


@pytest.mark.npm
def test_an_npm_package_is_looked_up_by_its_index() -> None:
    found = npm.look_up("@modelcontextprotocol/server-memory", "2026.8.31")

    starter = load_entry(PROJECT_ROOT / "registry" / "servers" / "memory")
    assert starter.source is not None
    assert found.source["integrity"] == starter.source.integrity


def test_without_a_network_every_look_up_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = "http://127.0.0.1:9/"
    for variable in ("PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX", "npm_config_registry"):
        monkeypatch.setenv(variable, nobody)
    monkeypatch.setenv("UV_NO_CACHE", "1")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("PIP_RETRIES", "1")  # pips before 24 name the reason only when they try again
    monkeypatch.setenv("npm_config_cache", str(tmp_path))
    monkeypatch.setenv("npm_config_fetch_retries", "0")

    with pytest.raises(LookupUnavailable):
        pypi.look_up("mcp-server-time")
    with pytest.raises(LookupUnavailable):
        npm.look_up("mcp-server-time")


def test_an_update_proposes_the_newest_commit_and_takes_it_only_when_told(
    repository: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = work / "ahoy"
    assert newest_pins(load_entry(folder)) == {}
    (repository / "server" / "ahoy.py").write_text("# two\n")
    git(repository, "commit", "--quiet", "--all", "--message=Two")
    newest = git(repository, "rev-parse", "HEAD")
    before = (folder / "server.yaml").read_text()

    assert hm("update", "ahoy", "--root", str(work), "--no-build") == 0

    assert newest[:12] in capsys.readouterr().out
    assert (folder / "server.yaml").read_text() == before
    assert hm("update", "ahoy", "--root", str(work), "--no-build", "--write") == 0
    after = (folder / "server.yaml").read_text()
    assert [(a, b) for a, b in zip(before.split("\n"), after.split("\n"), strict=True) if a != b] == [
        (f'  commit: "{before.split(chr(34))[1]}"', f'  commit: "{newest}"')
    ]


def test_an_images_update_is_what_its_tag_stands_for_today(tmp_path: Path) -> None:
    with OciServer() as server:
        layout = OciLayout(tmp_path / "image")
        old, new = (put_image(layout, files(hello=text)) for text in (b"one", b"two"))
        Remote().push(layout, new, f"{server.host}/acme/ahoy:1")
        folder = tmp_path / "servers" / "ahoy"
        folder.mkdir(parents=True)
        (folder / "server.yaml").write_text(COMMUNITY.format(image=f"{server.host}/acme/ahoy:1@{old}  # pinned"))

        proposal = propose(settings_of(tmp_path), folder, None)

    text = proposal.files["server.yaml"].decode()
    assert f"@{new}  # pinned" in text
    assert old not in text


def settings_of(tmp_path: Path) -> Any:
    from harbourmaster.core.settings import Settings

    return Settings.load(home=tmp_path / "harbour")


COMMUNITY = """\
name: ahoy
type: server
tier: community
about: {{title: Ahoy, description: Says ahoy.}}
meta: {{category: utilities}}
image: {image}
"""


def test_only_the_pins_own_words_are_replaced() -> None:
    document = (PROJECT_ROOT / "registry" / "servers" / "time" / "server.yaml").read_bytes()
    path = Path("time/server.yaml")

    changed = repinned(path, document, {"version": "2027.1.1", "sha256": "7" * 64})

    assert parse_entry(path, changed).version == "2027.1.1"
    assert len([1 for a, b in zip(document.split(b"\n"), changed.split(b"\n"), strict=True) if a != b]) == 2


def test_differences_are_words_that_a_reviewer_can_read() -> None:
    tool = {"name": "greet", "description": "Greets.", "inputSchema": {"type": "object"}}
    before = {"tools": [tool, {"name": "wave"}]}
    after = {"tools": [{**tool, "description": "Greets all."}, {"name": "shout"}]}
    old = {"components": [{"purl": "pkg:pypi/mcp@1.0"}, {"purl": "pkg:pypi/gone@1"}]}
    new = {"components": [{"purl": "pkg:pypi/mcp@2.0"}, {"purl": "pkg:npm/%40a/b@1?x=y"}]}

    assert differences.tools(before, after) == ["+ shout", "- wave", "~ greet: its description"]
    assert differences.packages(old, new) == ["+ npm/%40a/b 1", "- pypi/gone 1", "~ pypi/mcp 1.0 -> 2.0"]
    assert differences.tools(None, {"tools": [{"name": f"t{i}"} for i in range(100)]})[-1] == "... and 40 more"


def test_the_workflow_runs_strangers_branches_without_rights_or_secrets() -> None:
    text = WORKFLOW.read_text()
    body = yaml.safe_load(text)
    triggers = body[True]  # YAML 1.1 reads the key `on` as true

    assert set(triggers) == {"pull_request"}, "pull_request_target would run with the base's secrets"
    assert body["permissions"] == {"contents": "read"}
    assert "permissions" not in body["jobs"]["check"]
    assert "secrets." not in text
    assert "GITHUB_TOKEN" not in text
    steps = body["jobs"]["check"]["steps"]
    assert all("${{" not in step.get("run", "") for step in steps), "what a branch names must not become a command"
    checkouts = [step["with"] for step in steps if "checkout" in step.get("uses", "")]
    assert all(found["persist-credentials"] is False for found in checkouts)
    (check,) = [step for step in steps if "registry check" in step.get("run", "")]
    assert check["working-directory"] == "base", "the tools are the base's, the branch is data"


class _Answering(BaseHTTPRequestHandler):
    """A remote server: its first answer is what the test says."""

    answer: tuple[int, str, bytes] = (200, "application/json", b"{}")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status, kind, body = self.answer
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """No noise in the tests' output."""


@contextlib.contextmanager
def answering(status: int, kind: str, body: bytes) -> Iterator[str]:
    handler = type("Handler", (_Answering,), {"answer": (status, kind, body)})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = False
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/mcp"
        finally:
            server.shutdown()
            thread.join()


HELLO = json.dumps(
    {"jsonrpc": "2.0", "id": 1, "result": {"serverInfo": {"name": "ticket-mcp-server", "title": "Tickets"}}}
)


@pytest.mark.parametrize(
    ("status", "kind", "body", "title", "signs_in"),
    [
        (200, "application/json", HELLO.encode(), "Tickets", False),
        (200, "text/event-stream", f"event: message\ndata: {HELLO}\n\n".encode(), "Tickets", False),
        (401, "text/plain", b"who are you", "0", True),
        (200, "text/html", b"<html>" * 1000, "0", False),
    ],
)
def test_a_remote_server_is_asked_who_it_is_and_whether_people_sign_in(
    status: int, kind: str, body: bytes, title: str, signs_in: bool, tmp_path: Path
) -> None:
    with answering(status, kind, body) as url:
        found = remote.look_up(url, private=True)
        assert (
            hm(
                "new",
                "--url",
                url,
                "--private",
                "--name",
                "tickets",
                "--description",
                "Files.",
                "--root",
                str(tmp_path),
            )
            == 0
        )
        with pytest.raises(LookupUnusable):
            remote.look_up(url)

    assert found.title == title
    entry = load_entry(tmp_path / "tickets")
    assert entry.remote is not None
    assert (entry.remote.oauth is not None) == signs_in
    assert entry.remote.private == [entry.remote.host]


def test_a_remote_server_that_does_not_answer_fails_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(200, "application/json", HELLO.encode()) as url:
        said = ("--private", "--name", "tickets", "--description", "Files tickets.")
        assert hm("new", "--url", url, *said, "--root", str(tmp_path)) == 0
        assert hm("check", "tickets", "--root", str(tmp_path)) == 0
    capsys.readouterr()

    assert hm("check", "tickets", "--root", str(tmp_path)) == 1

    assert "lookup.unavailable" in capsys.readouterr().out.replace("&#95;", "_")


def test_at_the_prompt_an_empty_answer_takes_what_was_found(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = ["", "Ahoy there", "", "communication", "api.example.com:443", "greet"]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join([*answers, ""])))

    found = git_lookup.look_up(ADDRESS, directory="server")
    written = write_new(found, Wishes(expect="ahoy"), tmp_path / "servers", ask=True)

    entry = load_entry(written.folder)
    assert written.left == ()
    assert (entry.name, entry.about.title, entry.about.description) == ("ahoy", "Ahoy there", "Says ahoy.")
    assert (entry.meta.category, entry.run.network.hosts) == ("communication", ["api.example.com:443"])
    assert entry.test is not None
    assert entry.test.calls[0].tool == "greet"


def test_every_image_of_a_tool_image_entry_is_looked_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with OciServer() as server:
        layout = OciLayout(tmp_path / "image")
        digest = put_image(layout, files(hello=b"hi"), tag="x")
        Remote().push(layout, digest, f"{server.host}/acme/fetch:1")
        folder = tmp_path / "servers" / "ahoy"
        folder.mkdir(parents=True)
        head = COMMUNITY.partition("image:")[0].format().replace("type: server", "type: poci")
        tool = "  - {{name: {name}, container: {{image: '{image}'}}}}\n"
        there = tool.format(name="a", image=f"{server.host}/acme/fetch:1@{digest}")
        (folder / "server.yaml").write_text(f"{head}tools:\n{there}")
        assert hm("check", "ahoy", "--root", str(folder.parent)) == 0

        gone = tool.format(name="b", image=f"{server.host}/acme/fetch:1@sha256:{'7' * 64}")
        (folder / "server.yaml").write_text(f"{head}tools:\n{there}{gone}")
        assert hm("check", "ahoy", "--root", str(folder.parent)) == 1

    assert "remote.not_found" in capsys.readouterr().out.replace("&#95;", "_")
