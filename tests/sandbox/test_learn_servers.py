"""Learn mode on starter servers: what it proposes runs their tests green, and drops nothing that they need."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harbourmaster.core import audit
from harbourmaster.core.secrets import Delivery
from harbourmaster.core.settings import PROJECT_ROOT, Settings
from harbourmaster.learn import command
from harbourmaster.learn.command import Wishes, apply, learn_now, report
from harbourmaster.learn.learning import Learnt, Subject, learn
from harbourmaster.learn.trial import Ask, Outcome, Stage, run
from registry.admit import AdmittedImage
from registry.build.ours import RELAY
from registry.pipeline import BuildResult, build_all
from registry.schema import load_entries, load_entry, parse_entry
from registry.trial import try_calls
from sandbox.egress.rules import Rules
from sandbox.engine import Engine
from sandbox.learn.authority import Authority
from sandbox.learn.errors import LearnFailed
from sandbox.learn.outlet import Learning, Seen
from sandbox.learn.proposal import Findings, propose
from sandbox.learn.recording import Recording
from sandbox.learn.watching import Use
from sandbox.profile import Profile
from sandbox.reaper import list_relays, list_sandboxes
from tests.fixtures.known_images import only_known_images
from tests.fixtures.relay_images import build_relay_image

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.npm]

SERVERS = ("sqlite", "duckduckgo", "context7")
ASKED = {
    "duckduckgo": [Ask("search", {"query": "harbour", "max_results": 1})],
    "context7": [Ask("resolve-library-id", {"query": "how to start a server", "libraryName": "starlette"})],
}
SAID = {"sqlite": "Argo", "duckduckgo": "A harbour", "context7": "/encode/starlette"}
HOSTS = {"sqlite": [], "duckduckgo": ["html.duckduckgo.com:443"], "context7": ["context7.com:443"]}
TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def built(
    engine: Engine, built_home: Path | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, BuildResult]]:
    """Starter servers: ``HM_TEST_HOME``'s, else built for this run."""
    settings = Settings.load(home=built_home or tmp_path_factory.mktemp("starters"))
    with only_known_images(engine.client, keep=built_home is not None):
        yield build_all(settings, engine, load_entries(settings.servers_dir, SERVERS))


@pytest.fixture
def stage(engine: Engine, profile: Profile, tmp_path: Path) -> Iterator[Stage]:
    relay = build_relay_image(engine)
    yield Stage(engine, profile, lambda: relay, lambda _: None, tmp_path / "s", TIMEOUT_S)
    assert [*list_sandboxes(engine), *list_relays(engine)] == []


def subject(name: str, built: dict[str, BuildResult], place: Path, **changes: str) -> Subject:
    """A copy of the entry without what it lists already, so that all of it has to be learnt."""
    folder = place / name
    shutil.copytree(PROJECT_ROOT / "registry" / "servers" / name, folder)
    path = folder / "server.yaml"
    text = path.read_text()
    for before, after in {f"  network:\n    hosts: {json.dumps(HOSTS[name])}\n": "", **changes}.items():
        text = text.replace(before, after)
    path.write_text(text)
    return Subject(load_entry(folder), path, text, built[name].image_id, built[name].manifest, Delivery())


def answers(name: str) -> Learning:
    file = Path(__file__).parent / "recordings" / f"{name}.json"
    return Learning(simulate=Recording.parse(file.read_bytes()), authority=Authority()) if file.exists() else Learning()


async def learnt_of(stage: Stage, found: Subject, learning: Learning) -> Learnt:
    test = found.entry.test
    own = [Ask(call.tool, call.arguments) for call in test.calls] if test else []
    return await learn(stage, found, ASKED.get(found.entry.name, own), learning)


async def own_tests(stage: Stage, found: Subject) -> list[str]:
    """What is wrong with each answer that the entry promises, in the sandbox that the entry makes now."""
    entry = load_entry(found.path.parent)
    outcomes = await asyncio.to_thread(try_calls, stage.engine, entry, found.image_id, found.image, timeout_s=TIMEOUT_S)
    return [outcome.problem for outcome in outcomes]


@pytest.mark.parametrize("name", SERVERS)
async def test_the_proposal_is_the_least_that_holds(
    stage: Stage, built: dict[str, BuildResult], tmp_path: Path, name: str
) -> None:
    found, learning = subject(name, built, tmp_path), answers(name)
    assert found.entry.run.network.hosts == []
    learnt = await learnt_of(stage, found, learning)
    assert SAID[name] in learnt.outcome.answers[-1].text
    assert learnt.differs == (), report(learnt)
    after = parse_entry(found.path, learnt.after.encode())
    assert after.run.network.hosts == HOSTS[name]
    limits = after.limits()
    assert 32 < learnt.outcome.use.memory_mb < limits["memory_mb"] <= 256
    assert 1 < learnt.outcome.use.pids < limits["pids"] <= 64
    assert apply(found.path, learnt, yes=False) is False
    assert found.path.read_text() == found.text, "nothing applies without a yes"
    assert apply(found.path, learnt, yes=True) is True
    assert await own_tests(stage, found) == [""] * len(found.entry.test.calls if found.entry.test else ())


@pytest.mark.parametrize("name", ["duckduckgo", "context7"])
async def test_without_the_host_that_it_proposes_the_call_does_not_succeed(
    stage: Stage, built: dict[str, BuildResult], tmp_path: Path, name: str
) -> None:
    found = subject(name, built, tmp_path)
    closed = Learning(open=False, simulate=answers(name).simulate, authority=Authority())
    rules = Rules.parse({"hosts": ["other.test:443"]})
    outcome = await run(stage, stage.profile, found.spec(found.entry), closed, rules, ASKED[name])
    assert SAID[name] not in outcome.answers[-1].text
    assert HOSTS[name][0].removesuffix(":443") in outcome.seen.asked


async def test_places_that_it_writes_to_are_learnt(stage: Stage, built: dict[str, BuildResult], tmp_path: Path) -> None:
    found = subject("sqlite", built, tmp_path, **{"/tmp/data.db": "/var/tmp/ships/data.db"})
    learnt = await learnt_of(stage, found, Learning())
    assert learnt.outcome.use.written == {"/var/tmp/ships"}
    assert learnt.differs == (), report(learnt)
    assert parse_entry(found.path, learnt.after.encode()).access().writable == ("/var/tmp/ships",)


def test_a_proposal_that_does_not_hold_is_never_applied(tmp_path: Path) -> None:
    path = tmp_path / "server.yaml"
    path.write_text("before")
    outcome = Outcome((), Use(), Seen(), ())
    proposal = propose(Findings((), (), (), 1, 1, 1), {})
    with pytest.raises(LearnFailed, match="end otherwise"):
        apply(path, Learnt(outcome, proposal, "before", "after", "a patch", ("search: no",)), yes=True)
    path.write_text("meanwhile")
    with pytest.raises(LearnFailed, match="changed meanwhile"):
        apply(path, Learnt(outcome, proposal, "before", "after", "a patch", ()), yes=True)
    assert path.read_text() == "meanwhile"


def test_the_command_shows_the_patch_and_puts_it_into_the_entry_when_told_to(
    stage: Stage, built: dict[str, BuildResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """As it is typed, but for admission: the images are this test's own."""
    found = subject("duckduckgo", built, tmp_path)
    settings = Settings.load(home=tmp_path / "home")
    images = {"duckduckgo": (found.image, found.image_id), RELAY: ("", stage.relay())}

    class Admits:
        def __init__(self, *_: object) -> None:
            pass

        def admit(self, name: str) -> AdmittedImage:
            return AdmittedImage(name, *images[name], "", (), cached=True)

    monkeypatch.setattr(command, "LiveAdmitter", Admits)
    recorded = Path(__file__).parent / "recordings" / "duckduckgo.json"
    words = ["search", "query=harbour", "max_results:=1"]
    learn_now(settings, Wishes("duckduckgo", words, recorded, None, False, (), False, tmp_path, True, False))
    said = capsys.readouterr()
    assert "it connected to html.duckduckgo.com:443" in said.err
    assert '+    hosts: ["html.duckduckgo.com:443"]' in said.out
    assert load_entry(found.path.parent).run.network.hosts == HOSTS["duckduckgo"]
    kinds = {(r["kind"], r.get("event")) for r in audit.tail(settings.audit_dir, 100)}
    assert {("egress", "open"), ("egress", "close")} <= kinds
