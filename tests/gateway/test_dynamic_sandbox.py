"""Profiles, dynamic tools and code mode over this installation's own servers in their sandboxes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.dynamic.code import SOURCE
from gateway.gateway import Gateway
from gateway.profiles.files import ProfileFiles
from gateway.profiles.schema import Dynamic, Profile, ServerRules, ToolRules
from gateway.serve import bind, http_server
from harbourmaster import containers
from harbourmaster.compose import composed_gateway
from harbourmaster.core.audit import tail
from harbourmaster.core.settings import Settings
from harbourmaster.up.servers import prepare
from registry.build.coderunner import is_built
from sandbox.engine import Engine
from sandbox.reaper import ALL, list_sandboxes, reap
from tests.fixtures.lent import lend
from tests.gateway.harness import Http, tool_call, until
from tests.gateway.test_dynamic_http import call, code
from tests.gateway.test_profiles_http import names, text

pytestmark = [pytest.mark.engine, pytest.mark.slow]

SERVERS = ("calculator", "time")
PROFILES = {
    "work": Profile(
        servers={
            "time": ServerRules(config={"local_timezone": "Europe/Oslo"}, tools=ToolRules(deny=["convert_*"])),
            "calculator": ServerRules(limits={"memory_mb": 600}),
        }
    ),
    "talk": Profile(dynamic=True, servers={"calculator": None}),
    "quiet": Profile(dynamic=Dynamic(code=False), servers={}),
}


@pytest.fixture(scope="module")
def settings(built_home: Path | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A home of these tests' own with two servers locked, and the code runner built; what HM_TEST_HOME has built is used."""
    settings = Settings.load(home=tmp_path_factory.mktemp("dynamic") / "harbour", pool_spares=0)
    if built_home is not None:
        lend(built_home, settings.home, linked=True)
    engine = Engine.connect(settings)
    before = _tags(engine)
    prepared = prepare(settings, engine, SERVERS, yes=True, say=print)
    assert not prepared.failed
    files = ProfileFiles(settings.profiles_dir)
    for name, profile in PROFILES.items():
        files.put(name, profile)
    yield settings
    for tag in _tags(engine) - before:
        engine.api.remove_image(tag, noprune=True)
    engine.close()


def _tags(engine: Engine) -> set[str]:
    return {tag for image in engine.api.images("harbourmaster/*") for tag in image["RepoTags"] or ()}


@pytest.fixture
def own_engine(settings: Settings) -> Iterator[Engine]:
    engine = Engine.connect(settings)
    yield engine
    reap(engine, owner=ALL)
    engine.close()


@pytest.fixture
async def served(settings: Settings, own_engine: Engine) -> AsyncIterator[tuple[Gateway, Http]]:
    async with composed_gateway(settings) as gateway:
        sock = bind("127.0.0.1", 0)
        port, token = sock.getsockname()[1], gateway.tokens.default()
        async with http_server(gateway, settings, sock):
            yield gateway, Http(port, token)
    assert list_sandboxes(own_engine) == [], "a sandbox outlived its gateway"


async def test_a_profile_s_values_and_limits_reach_the_sandbox_and_other_profiles_keep_theirs(
    served: tuple[Gateway, Http], own_engine: Engine, settings: Settings
) -> None:
    _, http = served
    work = http.at("work")
    session, plain = await work.initialize(), await http.initialize()
    assert "convert_time" not in await names(work, session)
    assert "convert_time" in await names(http, plain)
    for at, one in ((work, session), (http, plain)):
        assert "datetime" in text(await at.call(one, "tools/call", tool_call("get_current_time", {"timezone": "UTC"})))
        assert "4" in text(await at.call(one, "tools/call", tool_call("calculate", {"expression": "2+2"})))
    found = [own_engine.api.inspect_container(box["Id"]) for box in list_sandboxes(own_engine)]
    assert {arg for box in found for arg in box["Config"]["Cmd"] if arg.startswith("--local")} == {
        "--local-timezone=Europe/Oslo",
        "--local-timezone=UTC",
    }
    limits = {box["HostConfig"]["Memory"] >> 20 for box in found if "calculator" in box["Name"]}
    assert limits == {512, 600}
    admitted = {r["server"] for r in tail(settings.audit_dir, 50) if r["kind"] == "admission"}
    assert admitted >= set(SERVERS)


RULE = """@id("own.no-more-memory")
@reason("no server gets more memory here")
@remedy("take the limit out of the profile")
forbid (principal, action == Action::"run", resource) when { context.relaxations.contains("memory_mb") };
"""


async def test_a_limit_beyond_the_entry_s_is_decided_by_the_policies_that_decide_about_the_entry_s(
    served: tuple[Gateway, Http], settings: Settings
) -> None:
    _, http = served
    rule = settings.home / "policies" / "own.cedar"
    rule.parent.mkdir(exist_ok=True)
    rule.write_text(RULE)
    try:
        work, question = http.at("work"), tool_call("calculate", {"expression": "2+2"})
        refused = await work.call(await work.initialize(), "tools/call", question)
        assert refused["error"]["data"]["code"] == "admission.denied"
        assert "no server gets more memory here" in refused["error"]["message"]
        assert "4" in text(await http.call(await http.initialize(), "tools/call", question))
    finally:
        rule.unlink()


async def test_a_conversation_finds_adds_executes_and_scripts_without_a_server_listed(
    served: tuple[Gateway, Http], own_engine: Engine, settings: Settings
) -> None:
    _, http = served
    talk = http.at("talk")
    session = await talk.initialize()
    assert len(await names(talk, session)) == 6
    assert list_sandboxes(own_engine) == []
    found = (await call(talk, session, "mcp-find", query="what time is it in Tokyo"))["structuredContent"]["tools"]
    assert (found[0]["server"], found[0]["state"]) == ("time", "addable")
    asked = await call(talk, session, "mcp-add", name="time")
    assert code(asked) == "dynamic.consent_needed"
    await call(talk, session, "mcp-add", name="time", accept=asked["structuredContent"]["accept"])
    assert "get_current_time" in await names(talk, session)
    script = """
now = call("get_current_time", timezone="Asia/Tokyo")
four = call("calculate", {"expression": "2+2"})
print(sorted(now) if isinstance(now, dict) else now)
result({"four": four, "zone": now["timezone"] if isinstance(now, dict) else now})
"""
    done = await call(talk, session, "mcp-code", script=script)
    assert done.get("isError") is not True, done
    assert "Asia/Tokyo" in str(done["structuredContent"]["result"]["zone"])
    assert "4" in str(done["structuredContent"]["result"]["four"])
    await until(lambda: "code-runner" not in _running(own_engine), "the end of the script's sandbox")
    calls = [(r["server"], r["tool"]) for r in tail(settings.audit_dir, 50) if r["kind"] == "call"]
    assert calls[-3:] == [("time", "get_current_time"), ("calculator", "calculate"), ("harbourmaster", "mcp-code")]


async def test_a_script_has_no_network_no_files_to_change_and_no_way_to_other_sandboxes(
    served: tuple[Gateway, Http], own_engine: Engine
) -> None:
    _, http = served
    talk = http.at("talk")
    script = """
import os, socket
print(sorted(name for _, name in socket.if_nameindex()))
for attempt in (lambda: socket.create_connection(("1.1.1.1", 53), 1), lambda: open("/opt/code-runner.py", "w")):
    try:
        attempt()
        print("it worked")
    except OSError as e:
        print(type(e).__name__)
print(os.getuid(), [line.split()[1] for line in open("/proc/self/status") if line.startswith(("CapEff", "NoNewPrivs", "Seccomp:"))])
"""
    done: Any = await call(talk, await talk.initialize(), "mcp-code", script=script)
    lines = done["structuredContent"]["output"].splitlines()
    assert lines[0] == "['lo']"
    assert "it worked" not in lines
    assert lines[3] == "65532 ['0000000000000000', '1', '2']"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("kept = b'x' * (1 << 32)", "memory"),
        ("import os\nos.write(1, b'x' * 100_000_000)", "longer than"),
        ("print('x' * 100_000)", "dynamic.code_stopped"),
        ("result('x' * 100_000)", "dynamic.code_stopped"),
        ("while True: pass", "dynamic.code_stopped"),
        ("full = open('/tmp/full', 'wb')\nwhile True: full.write(bytes(1 << 20))", "File too large"),
        ("for n in range(4096): open(f'/tmp/{n}', 'wb').write(bytes(1 << 20))", "No space left"),
        ("import os, time\nwhile True: os.fork() or time.sleep(60)", "BlockingIOError"),
    ],
    ids=["memory", "wire", "output", "result", "time", "file", "space", "processes"],
)
async def test_a_script_that_takes_more_than_it_may_ends_alone_and_says_why(
    served: tuple[Gateway, Http], own_engine: Engine, script: str, said: str
) -> None:
    _, http = served
    talk = http.at("talk")
    session = await talk.initialize()
    done: Any = await call(
        talk, session, "mcp-code", script=script, seconds=20 if said != "dynamic.code_stopped" else 2
    )
    assert done["isError"] is True
    assert said in str(done), done
    assert "4" in str(await call(talk, session, "mcp-exec", name="calculate", arguments={"expression": "2+2"}))
    await until(lambda: "code-runner" not in _running(own_engine), "the end of the script's sandbox")


def test_the_code_runner_counts_as_built_until_its_program_or_its_base_is_another(settings: Settings) -> None:
    program = SOURCE.read_bytes()
    assert is_built(settings, program)
    assert not is_built(settings, program + b"#")
    bases = settings.home / "bases.json"
    before = bases.read_bytes()
    try:
        bases.write_bytes(before.replace(b'"python"', b'"snake"'))
        assert not is_built(settings, program)
    finally:
        bases.write_bytes(before)


async def test_a_profile_without_code_mode_has_none(served: tuple[Gateway, Http]) -> None:
    quiet = served[1].at("quiet")
    assert "mcp-code" not in await names(quiet, await quiet.initialize())


def _running(engine: Engine) -> set[str]:
    return {box["Labels"]["harbourmaster.server"] for box in list_sandboxes(engine)}


async def test_an_engine_that_appears_after_the_gateway_began_serves_without_a_restart(
    settings: Settings, own_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not own_engine.url.startswith("unix://"):
        pytest.skip("only an engine at a Unix socket can be made to appear")
    monkeypatch.setattr(containers, "AGAIN_S", 0.0)
    socket = tmp_path / "engine.sock"
    late = settings.model_copy(update={"engine_url": f"unix://{socket}"})
    asked = tool_call("calculate", {"expression": "2+2"})
    async with composed_gateway(late) as gateway:
        sock = bind("127.0.0.1", 0)
        port, token = sock.getsockname()[1], gateway.tokens.default()
        async with http_server(gateway, late, sock):
            http = Http(port, token)
            session = await http.initialize()
            reply = await http.call(session, "tools/call", asked)
            assert reply["error"]["data"]["code"] == "engine.missing"
            socket.symlink_to(own_engine.url.removeprefix("unix://"))
            assert "4" in text(await http.call(session, "tools/call", asked))
    events = [r["event"] for r in tail(settings.audit_dir, 50) if r["kind"] == "gateway"]
    assert events[-4:] == ["engine_missing", "start", "engine_found", "stop"]
    assert list_sandboxes(own_engine) == [], "a sandbox outlived its gateway"
