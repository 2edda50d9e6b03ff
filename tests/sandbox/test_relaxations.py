"""What an entry may have beyond the profile: from its file to the lock, the policies' sight, people's, and the sandbox."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.cli_server import app
from gateway.lock import read_lock, write_lock
from harbourmaster.core import audit
from harbourmaster.core.settings import PROJECT_ROOT, Settings
from harbourmaster.up.locking import run_settings
from policies.admission import EntryFacts, decide
from policies.evidence import Evidence, Signature
from policies.policy_set import PolicySet, builtin_files, builtin_schema
from registry.build.errors import EntryInvalid
from registry.schema import parse_entry
from registry.target import asked, target_of_entry
from sandbox.access import Access, HostPath
from sandbox.engine import Engine
from sandbox.errors import HostPathDenied, RuntimeMissing, SpecRefused
from sandbox.owner import LABEL_HOME
from sandbox.profile import Profile, container_config, relaxations, volume_name
from sandbox.reaper import list_sandboxes
from sandbox.spec import ImageFacts, SandboxSpec
from tests.gateway.harness import locked

TIME = PROJECT_ROOT / "registry" / "servers" / "time" / "server.yaml"
IMAGE = "sha256:" + "a" * 64
ASKED = """
  sandbox:
    memory_mb: {value: 1024, reason: loads a large index}
    writable: {value: [/cache], reason: keeps parsed pages there}
    volumes: {value: [/data], reason: keeps its database there}
    host_paths: {value: ["/srv/docs:/docs"], reason: reads the documents that it answers from}
    user: {value: "0:0", reason: its start script changes owners}
    capabilities: {value: [CHOWN], reason: its start script changes owners}
    runtime: {value: runsc, reason: reads files that strangers send}
"""
Probe = Callable[..., Awaitable[dict[str, int]]]


def entry(text: str = ASKED) -> Any:
    run = TIME.read_text().replace("\nconfig:", f"{text}config:", 1)
    return parse_entry(TIME, run.encode())


# -- on the way to the sandbox


def test_an_entry_s_wishes_and_reasons_are_in_the_lock_and_in_people_s_sight(tmp_path: Path, monkeypatch: Any) -> None:
    run = run_settings(entry())
    assert run["asked"]["volumes"] == {"value": ["/data"], "reason": "keeps its database there"}
    monkeypatch.setenv("HM_HOME", str(tmp_path))
    write_lock(Settings.load().lock_file, {"time": replace(locked("time", run=run), enabled=False)})
    enabled = CliRunner().invoke(app, ["enable", "time"]).output
    inspected = CliRunner().invoke(app, ["inspect", "time"]).output
    for words in (enabled, inspected):
        assert "host_paths /srv/docs:/docs, because: reads the documents that it answers from" in words
        assert "capabilities CHOWN, because" in words


@pytest.mark.parametrize(
    "asked_for",
    [
        "capabilities: {value: [SYS_ADMIN], reason: it would like to}",
        "capabilities: {value: [CHOWN], reason: without being root}",
        "writable: {value: [/etc], reason: it would like to}",
        "writable: {value: [/usr/lib/x], reason: it would like to}",
        "host_paths: {value: [docs], reason: it would like to}",
        "host_paths: {value: ['/srv/../etc'], reason: it would like to}",
        "user: {value: root, reason: it would like to}",
        "user: {value: '00:0', reason: it would like to}",
        "user: {value: '0:00', reason: it would like to}",
        "user: {value: '1000:01', reason: it would like to}",
        "volumes: {value: [/data]}",
        "privileged: {value: true, reason: it would like to}",
    ],
)
def test_what_nobody_is_given_is_refused_in_the_entry_with_its_line(asked_for: str) -> None:
    with pytest.raises(EntryInvalid) as refused:
        entry(f"\n  sandbox:\n    {asked_for}\n")
    assert "server.yaml" in str(refused.value)


def test_root_is_root_however_it_is_written() -> None:
    """An engine reads ``00`` as 0; an entry that asks for it must not pass for one that asks for a number above 0."""
    for written in ("0:0", "00:0", "000:1000", "0:65532"):
        assert Access(user=written).is_root
        assert "root" in Access(user=written).relaxations()
    for other in ("1:0", "1000:1000", "10:0"):
        assert "root" not in Access(user=other).relaxations()


def test_policies_see_each_wish_by_name_and_kind() -> None:
    names = asked(entry())
    assert {
        "memory_mb",
        "volume",
        "volume=/data",
        "host-path",
        "host-path=/srv/docs:/docs:ro",
        "root",
        "root=0:0",
    } <= set(names)
    assert {"capability", "capability=CHOWN", "writable=/cache"} <= set(names)


def verdict(facts: EntryFacts, tier: str = "built", own: str = "") -> tuple[bool, tuple[str, ...]]:
    files = (*builtin_files(), *([("own.cedar", own)] if own else []))
    paper = Signature("key", "k", "", "", None)
    fields: dict[str, Any] = dict.fromkeys(Evidence.__dataclass_fields__)
    fields |= {
        "name": "x",
        "tier": tier,
        "image": "y",
        "image_id": "",
        "config_digest": "",
        "links": (),
        "signature": paper,
    }
    fields |= {name: object() for name in ("sbom", "provenance", "listing")}
    from datetime import UTC, datetime

    found = decide(Evidence(**fields | {"verified_at": datetime.now(UTC)}), facts, PolicySet(files, builtin_schema()))
    return found.allowed, found.policies


def test_nobody_runs_with_strong_ones_until_a_person_agreed() -> None:
    target = target_of_entry(entry())
    assert verdict(target.facts) == (False, ("any.relaxation-unapproved",))
    agreed = target_of_entry(entry(), approved=asked(entry()))
    assert verdict(agreed.facts)[0] is True
    some = tuple(name for name in asked(entry()) if "docs" not in name)
    assert verdict(target_of_entry(entry(), approved=some).facts)[0] is False


def test_a_policy_of_one_s_own_can_forbid_what_a_person_agreed_to() -> None:
    facts = target_of_entry(entry(), approved=asked(entry())).facts
    own = '@id("own.no-docs") forbid (principal, action, resource) when { context.relaxations.contains("host-path=/srv/docs:/docs:ro") };'
    assert verdict(facts, own=own) == (False, ("own.no-docs",))


# -- a person's own yes


def test_a_person_gives_one_folder_to_one_server_and_takes_it_back(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HM_HOME", str(tmp_path / "harbour"))
    docs = tmp_path / "docs"
    docs.mkdir()
    (tmp_path / "link").symlink_to(docs)
    settings = Settings.load()
    write_lock(settings.lock_file, {name: locked(name) for name in ("one", "two")})
    said = CliRunner().invoke(app, ["enable", "one", "--allow", f"{tmp_path}/link:/docs:rw"])
    assert said.exit_code == 0, said.output
    assert f"one may write to {docs}, which it sees as /docs" in said.output
    lock = read_lock(settings.lock_file)
    assert (lock["one"].granted, lock["two"].granted) == ([f"{docs}:/docs:rw"], [])
    assert Access.parse({}, lock["one"].granted).granted == {str(docs)}
    record = next(r for r in audit.tail(settings.audit_dir, 10) if r.get("event") == "paths")
    assert (record["server"], record["allowed"]) == ("one", [f"{docs}:/docs:rw"])
    CliRunner().invoke(app, ["enable", "one", "--revoke", str(docs)])
    assert read_lock(settings.lock_file)["one"].granted == []


def test_a_person_too_is_refused_what_would_end_the_isolation(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HM_HOME", str(tmp_path))
    settings = Settings.load()
    write_lock(settings.lock_file, {"one": locked("one")})
    for path in ("/", "/proc", str(tmp_path)):
        said = CliRunner().invoke(app, ["enable", "one", "--allow", f"{path}:/docs"])
        assert isinstance(said.exception, HostPathDenied), path
    assert read_lock(settings.lock_file)["one"].granted == []


# -- in the body that the engine gets


def test_nothing_of_it_is_there_unless_it_was_asked_for(profile: Profile) -> None:
    body = container_config(profile, SandboxSpec("x", IMAGE))
    assert "Mounts" not in body["HostConfig"]
    assert (body["HostConfig"]["CapAdd"], list(body["HostConfig"]["Tmpfs"])) == ([], ["/tmp"])


def test_each_wish_becomes_what_it_says_and_no_more(profile: Profile) -> None:
    access = Access.parse({"asked": entry().run.sandbox.asked()})
    body = container_config(profile, SandboxSpec("x", IMAGE, labels={LABEL_HOME: "h"}, access=access))
    host = body["HostConfig"]
    assert (body["User"], host["CapAdd"], host["CapDrop"], host["Runtime"]) == ("0:0", ["CAP_CHOWN"], ["ALL"], "runsc")
    assert host["Tmpfs"]["/cache"] == host["Tmpfs"]["/tmp"]
    bind, volume = host["Mounts"]
    assert (bind["Type"], bind["Source"], bind["Target"], bind["ReadOnly"]) == ("bind", "/srv/docs", "/docs", True)
    assert bind["BindOptions"] == {"Propagation": "rprivate", "NonRecursive": True}
    assert (volume["Type"], volume["Source"], volume["Target"]) == ("volume", volume_name("h", "x", "/data"), "/data")
    assert (host["Privileged"], host["ReadonlyRootfs"], host["Binds"]) == (False, True, [])
    label = body["Labels"]["harbourmaster.relaxed"]
    assert label == ",".join(relaxations(profile, SandboxSpec("x", IMAGE, access=access)))
    assert "host-path=/srv/docs:/docs:ro" in label


def test_a_place_that_the_image_declares_as_a_volume_is_the_one_that_was_asked_for(profile: Profile) -> None:
    image = ImageFacts(volumes=("/data", "/other"))
    host = container_config(profile, SandboxSpec("x", IMAGE, access=Access(volumes=("/data",))), image)["HostConfig"]
    assert ([m["Target"] for m in host["Mounts"]], sorted(host["Tmpfs"])) == (["/data"], ["/other", "/tmp"])


def test_what_one_server_keeps_is_no_other_s_and_no_other_home_s() -> None:
    names = {volume_name(h, s, p) for h in ("h", "i") for s in ("x", "y") for p in ("/data", "/more")}
    assert len(names) == 8


# -- in a real sandbox


@pytest.fixture
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    folder.chmod(0o777)
    (folder / "given").write_text("by the host")
    return folder


def given(path: Path, *, write: bool = False) -> Access:
    return Access(host_paths=(HostPath(str(path), "/docs", write),))


@pytest.mark.engine
@pytest.mark.parametrize(("write", "result"), [(False, 30), (True, 0)])
async def test_a_host_s_folder_can_be_read_and_written_only_where_that_was_agreed(
    probe: Probe, shared: Path, write: bool, result: int
) -> None:
    seen = await probe("places", "/docs", access=given(shared, write=write))
    assert (seen["uid"], seen["read"], seen["write"]) == (65532, 0, result)  # 30: EROFS
    assert (shared / "from-inside").exists() is write


@pytest.mark.engine
async def test_a_denied_path_never_reaches_the_engine(probe: Probe, engine: Engine) -> None:
    with pytest.raises(HostPathDenied):
        await probe("places", "/docs", access=given(Path("/etc")))
    assert list_sandboxes(engine) == []


@pytest.fixture
def volume(engine: Engine) -> Iterator[str]:
    name = volume_name(engine.home_label, "probe", "/data")
    yield name
    engine.api.remove_volume(name, force=True)


@pytest.mark.engine
async def test_a_volume_is_the_server_s_own_and_outlives_its_sandbox(probe: Probe, volume: str) -> None:
    access = Access(volumes=("/data",))
    first = await probe("places", "/data", access=access)
    second = await probe("places", "/data", access=access)
    assert [(seen["write"], seen["kept"]) for seen in (first, second)] == [(0, 0), (0, 1)]


@pytest.mark.engine
async def test_a_writable_place_is_memory_and_is_gone_with_the_sandbox(probe: Probe) -> None:
    access = Access(writable=("/cache",))
    for _ in range(2):
        seen = await probe("places", "/cache", access=access)
        assert (seen["write"], seen["kept"]) == (0, 0)


@pytest.mark.engine
async def test_root_and_a_capability_give_that_capability_and_no_other(probe: Probe) -> None:
    seen = await probe("places", "/tmp", access=Access(user="0:0"))
    assert (seen["uid"], seen["write"], seen["chown"]) == (0, 0, 1)
    seen = await probe("places", "/tmp", access=Access(user="0:0", capabilities=("CHOWN",)))
    assert (seen["uid"], seen["chown"]) == (0, 0)
    calls = await probe("calls", access=Access(user="0:0", capabilities=("CHOWN",)))
    assert {calls[name] for name in ("mount", "ptrace", "bpf") if name in calls} <= {1, 38}


@pytest.mark.engine
async def test_a_runtime_that_the_engine_lacks_is_named_with_what_to_do(probe: Probe, engine: Engine) -> None:
    absent = next(r for r in ("kata", "runsc") if r not in engine.info().runtimes)
    with pytest.raises(RuntimeMissing) as refused:
        await probe("places", access=Access(runtime=absent))
    assert refused.value.code == "engine.runtime_missing"
    assert f"no runtime named {absent}; it has: " in refused.value.message
    assert "daemon.json" in refused.value.remedy
    assert list_sandboxes(engine) == []


def test_a_wish_in_a_lock_that_was_tampered_with_is_refused() -> None:
    for tampered in (
        {"capabilities": {"value": ["SYS_ADMIN"]}, "user": {"value": "0:0"}},
        {"host_paths": {"value": ["x"]}},
        {"user": {"value": "000:0"}},
        {"user": {"value": "٠:0"}},
    ):
        with pytest.raises(SpecRefused):
            Access.parse({"asked": json.loads(json.dumps(tampered))})
