"""An entry with an image for each tool, from a catalog to calls: pulled, looked into, verified, run once per call."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ociserver import OciServer

from gateway.lock import read_lock
from harbourmaster.cli import main
from harbourmaster.core import audit
from harbourmaster.core.settings import Settings
from harbourmaster.up.servers import Prepared, prepare
from registry.check import Checker
from registry.oci.importer import import_engine_image
from registry.oci.layout import OciLayout
from registry.oci.remote import Remote
from registry.schema import load_entry
from registry.toolset import parts
from registry.update import propose
from sandbox.engine import Engine
from sandbox.profile import Profile
from tests.fixtures.images import HERE, build_image, remove_loaded

pytestmark = pytest.mark.engine

PROGRAM = HERE / "program" / "program.c"
ENTRY = """\
name: net
type: poci
tier: community
about: {{title: Net, description: Says and looks.}}
meta: {{category: web}}
run:
  env: {{AGENT: "{{{{agent}}}}"}}
config:
  secrets: [{{name: net.key, env: KEY, description: The key, required: false}}]
  parameters:
    agent: {{type: string, description: Who asks, default: ahoy, required: false}}
tools:
  - name: say
    description: Says words.
    parameters:
      type: object
      properties:
        text: {{type: string, maxLength: 40}}
        more: {{type: array, items: {{type: string}}}}
      required: [text]
    container: {{image: '{one}', command: [say, '{{{{text}}}}', '--for={{{{agent}}}}', '{{{{more|into}}}}']}}
  - name: do
    description: Does what it is told.
    parameters:
      type: object
      properties: {{what: {{type: string}}, bytes: {{type: integer}}}}
      required: [what]
    container: {{image: '{two}', command: ['{{{{what}}}}', '{{{{bytes}}}}'], user: '1234:1234'}}
test:
  calls:
    - {{tool: say, arguments: {{text: ahoy, more: [-x]}}, expect: {{contains: "[-x]"}}}}
    - {{tool: say, arguments: {{text: -x}}, expect: {{is_error: true}}}}
    - {{tool: do, arguments: {{what: fail}}, expect: {{is_error: true, contains: it went wrong}}}}
"""


@dataclass(frozen=True)
class Harbour:
    settings: Settings
    root: Path
    server: OciServer

    def hm(self, *arguments: str) -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HM_HOME", str(self.settings.home))
            patch.setenv("HM_POOL_SPARES", "0")
            patch.setenv("HM_SECRETS_BACKEND", "age")
            try:
                main(list(arguments))
            except SystemExit as e:
                return int(e.code or 0)
        return 0

    @property
    def file(self) -> Path:
        return self.root / "net" / "server.yaml"

    def records(self, kind: str) -> list[dict[str, object]]:
        return [r for r in audit.tail(self.settings.audit_dir, 500) if r["kind"] == kind]


@pytest.fixture
def harbour(tidy_engine: Engine, settings: Settings, tmp_path: Path) -> Iterator[Harbour]:
    """A folder with the entry, whose two images somebody else published."""
    layout = OciLayout(tmp_path / "publisher")
    with OciServer() as server:
        images = []
        for name, entrypoint in (("one", ["/server"]), ("two", ["/server"])):
            image = build_image(tidy_engine, f"hm-test-{name}", PROGRAM, Entrypoint=entrypoint, Env=[f"IMAGE={name}"])
            digest = import_engine_image(tidy_engine.client, image, layout)
            Remote().push(layout, digest, f"{server.host}/acme/{name}:1")
            images.append(f"{server.host}/acme/{name}:1@{digest}")
        found = Harbour(settings, tmp_path / "servers", server)
        found.file.parent.mkdir(parents=True)
        found.file.write_text(ENTRY.format(one=images[0], two=images[1]))
        yield found
    for name in ("one", "two", "bare"):
        remove_loaded(tidy_engine, f"hm-test-{name}")


@pytest.fixture
def added(harbour: Harbour) -> Harbour:
    assert harbour.hm("catalog", "source", "add", "ours", "servers", str(harbour.root)) == 0
    assert harbour.hm("catalog", "add", "net", "--yes") == 0
    return harbour


def flip_a_byte(settings: Settings, image: str) -> None:
    layout = OciLayout(settings.oci_dir)
    blob = layout.blobs.path(layout.read_manifest(image).layers[0].digest)
    data = bytearray(blob.read_bytes())
    data[700] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(bytes(data))


def test_a_person_hears_what_each_tool_runs_before_saying_yes(
    harbour: Harbour, capsys: pytest.CaptureFixture[str]
) -> None:
    harbour.hm("catalog", "source", "add", "ours", "servers", str(harbour.root))
    capsys.readouterr()

    assert harbour.hm("catalog", "add", "net") == 1

    said = " ".join(capsys.readouterr().out.split())
    assert "the tool say runs" in said
    assert "whoever calls it chooses all of its program's options" in said
    assert "net" not in read_lock(harbour.settings.lock_file)


def test_each_call_runs_the_tools_own_image_once_in_a_sandbox(
    added: Harbour, capsys: pytest.CaptureFixture[str], tidy_engine: Engine
) -> None:
    line = read_lock(added.settings.lock_file)["net"]
    assert line.enabled
    assert len(line.parts) == 2
    assert {t["name"] for t in line.listing["tools"]} == {"say", "do"}
    assert line.run["ephemeral"] == "call"

    capsys.readouterr()
    assert added.hm("call", "net.say", "text=ahoy there", 'more=["-v", "x y"]') == 0
    assert "[ahoy there]\n[--for=ahoy]\n[-v]\n[x y]" in capsys.readouterr().out
    assert added.hm("call", "net.do", "what=who") == 0
    assert "uid 1234, root read-only, KEY unset" in capsys.readouterr().out
    assert added.hm("call", "net.do", "what=read") == 0
    assert "read 0 bytes, then the end" in capsys.readouterr().out

    starts = [r for r in added.records("sandbox") if r["event"] == "start"]
    assert [r["image"] for r in starts] == [
        line.run["tools"]["say"]["image"],
        line.run["tools"]["do"]["image"],
        line.run["tools"]["do"]["image"],
    ]
    assert len([r for r in added.records("sandbox") if r["event"] == "stop"]) == 3
    calls = added.records("call")
    assert [(r["tool"], r["outcome"], r["sandbox"]) for r in calls] == [
        (tool, "ok", start["sandbox"]) for tool, start in zip(("say", "do", "do"), starts, strict=True)
    ]
    admitted = {r["image"] for r in added.records("admission") if r["verdict"] == "admitted"}
    assert admitted == {tool["image"] for tool in line.run["tools"].values()}
    left = tidy_engine.client.containers.list(all=True, filters={"label": "harbourmaster.server=net"})
    assert left == [], "nothing outlives its call"


def test_what_a_caller_may_not_say_starts_nothing(added: Harbour, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    for wrong, code in (
        (("net.say", "text=-x"), "tool.arguments"),
        (("net.say", f"text={'x' * 41}"), "arguments"),
        (("net.say",), "arguments"),
    ):
        assert added.hm("call", *wrong) != 0
        assert code in capsys.readouterr().err
    assert added.records("sandbox") == []


def test_a_failure_and_a_flood_are_errors_that_say_so(added: Harbour, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert added.hm("call", "net.do", "what=fail") != 0
    said = capsys.readouterr()
    assert "half an answer\nit went wrong\nit ended with status 7" in said.out + said.err

    assert added.hm("call", "net.do", "what=flood", "bytes=50000000") != 0
    said = capsys.readouterr()
    assert "it printed more than" in said.out + said.err


def test_a_program_that_does_not_end_is_stopped_at_the_calls_deadline(
    added: Harbour, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tidy_engine: Engine
) -> None:
    monkeypatch.setenv("HM_CALL_TIMEOUT_S", "2")
    capsys.readouterr()

    assert added.hm("call", "net.do", "what=wait") != 0

    assert "did not answer" in capsys.readouterr().err
    left = tidy_engine.client.containers.list(all=True, filters={"label": "harbourmaster.server=net"})
    assert left == []


def test_a_secret_reaches_the_one_program_it_is_for(added: Harbour, capsys: pytest.CaptureFixture[str]) -> None:
    assert added.hm("secret", "set", "net.key=s3cret-of-net", "--server", "net") == 0
    capsys.readouterr()

    assert added.hm("call", "net.do", "what=who") == 0

    assert "KEY unset" not in capsys.readouterr().out
    assert "s3cret-of-net" not in json.dumps(audit.tail(added.settings.audit_dir, 500))


def test_every_image_is_verified_and_one_that_was_changed_stops_the_server(
    added: Harbour, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert added.hm("verify", "net", "--offline", "--deep", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    line = read_lock(added.settings.lock_file)["net"]
    assert {each["image"] for each in lines} == {tool["image"] for tool in line.run["tools"].values()}
    assert added.hm("lock", "diff", "net") == 0

    flip_a_byte(added.settings, line.run["tools"]["do"]["image"])

    assert added.hm("verify", "net", "--offline") == 1
    assert "digest.mismatch" in capsys.readouterr().err
    assert added.hm("call", "net.say", "text=ahoy") != 0, "all of its images, or none"
    assert "digest.mismatch" in capsys.readouterr().err
    assert added.records("sandbox") == []


def test_up_admits_all_of_its_images_or_leaves_it_out(
    added: Harbour, tidy_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Settings, "servers_dir", added.root)  # as one of the starters
    added.settings.lock_file.unlink()

    def up() -> Prepared:
        return prepare(added.settings, tidy_engine, ("net",), yes=True, say=print)

    first = up()
    line = read_lock(added.settings.lock_file)["net"]
    assert line.enabled
    assert (first.ready["net"].image, first.ready["net"].image_id) == (line.image, line.image_id)
    again = up()
    assert again.ready["net"].cached
    assert read_lock(added.settings.lock_file)["net"] == line
    admitted = [r for r in added.records("admission") if r["verdict"] == "admitted"][-2:]
    assert {r["image"] for r in admitted} == {tool["image"] for tool in line.run["tools"].values()}

    flip_a_byte(added.settings, line.run["tools"]["do"]["image"])
    refused = up()
    assert "net" not in refused.ready
    assert refused.failed["net"].code == "digest.mismatch"


def test_a_profile_fills_the_settings_of_tool_images(added: Harbour, capsys: pytest.CaptureFixture[str]) -> None:
    assert added.hm("profile", "create", "sea", "net") == 0
    assert added.hm("profile", "config", "sea", "net", "agent=captain") == 0
    capsys.readouterr()

    assert added.hm("call", "net.say", "text=ahoy", "--profile", "sea") == 0

    assert "[--for=captain]" in capsys.readouterr().out


def test_a_check_tries_each_tool_in_its_image(harbour: Harbour, tidy_engine: Engine) -> None:
    report = Checker(harbour.settings, tidy_engine, Profile.load()).check(harbour.file.parent)

    words = [(v.check, v.word) for v in report.verdicts]
    assert [v for v in report.verdicts if v.word == "fail"] == []
    assert words.count(("admission", "pass")) == 2, "each image by itself"
    assert ("calls", "pass") in words
    assert ("tools", "pass") in words
    assert any("say runs" in line for line in report.sections["What it may touch"])


def test_an_image_that_would_let_its_caller_choose_the_program_is_refused(
    harbour: Harbour, tidy_engine: Engine, tmp_path: Path
) -> None:
    layout = OciLayout(tmp_path / "another")
    image = build_image(tidy_engine, "hm-test-bare", PROGRAM, Entrypoint=[], Cmd=["/server"])
    digest = import_engine_image(tidy_engine.client, image, layout)
    Remote().push(layout, digest, f"{harbour.server.host}/acme/bare:1")
    _, two = parts(load_entry(harbour.file.parent)).values()
    bare = f"{harbour.server.host}/acme/bare:1@{digest}"
    harbour.file.write_text(harbour.file.read_text().replace(str(two.image), bare))

    report = Checker(harbour.settings, tidy_engine, Profile.load()).check(harbour.file.parent)

    (refused,) = [v.detail for v in report.verdicts if v.check == "build"]
    assert "lets its caller choose the program" in refused


def test_an_update_proposes_what_each_tools_tag_stands_for_today(
    harbour: Harbour, tidy_engine: Engine, tmp_path: Path
) -> None:
    layout = OciLayout(tmp_path / "newer")
    image = build_image(tidy_engine, "hm-test-two", PROGRAM, Entrypoint=["/server"], Env=["IMAGE=newer"])
    digest = import_engine_image(tidy_engine.client, image, layout)
    Remote().push(layout, digest, f"{harbour.server.host}/acme/two:1")

    proposal = propose(harbour.settings, harbour.file.parent, tidy_engine)

    _, two = parts(load_entry(harbour.file.parent)).values()
    written = proposal.files["server.yaml"].decode()
    assert written == harbour.file.read_text().replace(f"'{two.image}'", f'"{harbour.server.host}/acme/two:1@{digest}"')
    assert proposal.changes["Tools"] == []
    assert [line[:1] for line in proposal.changes["What it may touch"]] == ["+", "-"]
