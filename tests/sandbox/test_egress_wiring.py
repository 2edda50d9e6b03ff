"""From the entry to the sandbox: rules in the lock, in the policies' sight, and in force."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.cli_server import _page
from harbourmaster.compose import starter
from harbourmaster.core.settings import PROJECT_ROOT
from harbourmaster.up.locking import run_settings
from policies.admission import EntryFacts, context
from policies.evidence import Evidence
from policies.policy_set import PolicySet, builtin_files, builtin_schema
from registry.build.errors import EntryInvalid
from registry.schema import parse_entry
from sandbox.egress.errors import RelayFailed
from sandbox.engine import Engine
from sandbox.profile import Profile
from sandbox.reaper import list_relays, list_sandboxes
from tests.gateway.harness import Admitted, locked
from tests.sandbox.egress_world import PATIENCE_S, World, echo, serving

CONTEXT7 = PROJECT_ROOT / "registry" / "servers" / "context7" / "server.yaml"
RULES = {"hosts": ["db.test:5432"], "private": ["db.test:5432"]}


def test_the_lock_says_what_the_entry_lists_and_people_see_it() -> None:
    run = run_settings(parse_entry(CONTEXT7, CONTEXT7.read_bytes()))
    assert run["network"] == {"hosts": ["context7.com:443"], "private": []}
    assert "context7.com:443" in _page(locked("x", run=run))
    assert "db.test:5432 (may be private)" in _page(locked("x", run={"network": RULES}))


@pytest.mark.parametrize(
    "hosts",
    ['["169.254.169.254:80"]', '["*.com:443"]', '["localhost:80"]', '["a.test:443"]\n    private: ["b.test:443"]'],
)
def test_an_entry_with_a_rule_that_cannot_be_served_is_refused_with_its_line(hosts: str) -> None:
    text = CONTEXT7.read_text().replace('["context7.com:443"]', hosts)
    with pytest.raises(EntryInvalid) as refused:
        parse_entry(CONTEXT7, text.encode())
    assert "network" in str(refused.value)


def test_a_policy_can_forbid_by_host() -> None:
    own = '@id("own.no-db") forbid (principal, action, resource) when { context.hosts.contains("db.test:5432") };'
    policies = PolicySet((*builtin_files(), ("own.cedar", own)), builtin_schema())
    evidence = Evidence(**{f: _EMPTY.get(f) for f in Evidence.__dataclass_fields__})
    facts = context(evidence, EntryFacts(hosts=("db.test:5432",)))
    request = {
        "principal": {"type": "Server", "id": "x"},
        "action": {"type": "Action", "id": "run"},
        "resource": {"type": "Image", "id": "y"},
        "context": facts,
    }
    allowed, deciding, errors = policies.evaluate(request)
    assert (allowed, errors) == (False, ())
    assert "own.no-db" in {policy.id for policy in deciding}


_EMPTY: dict[str, Any] = {
    "name": "x",
    "tier": "community",
    "image": "y",
    "image_id": "",
    "config_digest": "",
    "links": (),
}


@pytest.fixture
async def world(engine: Engine, profile: Profile, tmp_path: Path) -> AsyncIterator[World]:
    world = World(engine, profile, tmp_path)
    yield world
    await world.close()
    assert [*list_sandboxes(engine), *list_relays(engine)] == []


@pytest.mark.engine
async def test_a_locked_server_reaches_its_host_and_its_relay_goes_when_it_does(
    world: World, engine: Engine, profile: Profile
) -> None:
    server = locked("db", image_id=world.client_image, profile=profile.digest, run={"network": RULES})
    lines: asyncio.Queue[bytes] = asyncio.Queue()
    start = starter(engine, profile, world.records.append, world.egress)
    async with serving(echo) as port:
        world.names.put("db.test", [("127.0.0.1", port)])
        admitted = Admitted(server.image, world.client_image)
        box = await start(server, admitted, lines.put_nowait, lambda _: None)
        box.write(b"connect db.test 5432\n")
        assert (await asyncio.wait_for(lines.get(), PATIENCE_S)).startswith(b"ok ")
        await box.stop()
    await world.egress.close()
    assert list_relays(engine) == []
    assert [(r["kind"], r["event"]) for r in world.records][:2] == [("sandbox", "start"), ("egress", "open")]


@pytest.mark.engine
async def test_a_server_with_rules_does_not_start_where_there_is_no_broker(
    world: World, engine: Engine, profile: Profile
) -> None:
    server = locked("db", image_id=world.client_image, profile=profile.digest, run={"network": RULES})
    start = starter(engine, profile, world.records.append)
    with pytest.raises(RelayFailed):
        await start(server, Admitted(server.image, world.client_image), lambda _: None, lambda _: None)


@pytest.mark.engine
async def test_a_sandbox_that_cannot_start_takes_its_relay_with_it(
    world: World, engine: Engine, profile: Profile
) -> None:
    server = locked("db", image_id="sha256:" + "0" * 64, profile=profile.digest, run={"network": RULES})
    start = starter(engine, profile, world.records.append, world.egress)
    with pytest.raises(Exception, match="image"):
        await start(server, Admitted(server.image, server.image_id), lambda _: None, lambda _: None)
    await world.egress.close()
    assert list_relays(engine) == []
