"""The relay's container: it makes the empty network name space that the sandbox then joins.

It is started first, and says over its control connection when every listener is up, so a server that connects with its
first instruction finds them there; and one can wait before its sandbox exists.  It is as locked down as a
sandbox (the same profile), and its one mount is the folder with the broker's socket, read-only.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import replace
from typing import Any

from harbourmaster.core.errors import HarbourError
from sandbox import containers
from sandbox.egress.broker import Broker, Outlet
from sandbox.egress.channel import SOCKET
from sandbox.egress.errors import RelayFailed
from sandbox.egress.names import SERVER
from sandbox.egress.rules import Rules
from sandbox.engine import Engine
from sandbox.owner import LABEL_HOME, LABEL_OWNER, LABEL_RELAY, LABEL_SERVER
from sandbox.profile import Profile, container_config, for_podman
from sandbox.spec import SandboxSpec

INSIDE = "/egress"
READY_S = 10.0  # the engine has started it by then; it needs a millisecond itself
# The profile's own limits, at their least; memory is a bound on what a hostile server can make it hold in socket buffers
RELAY_LIMITS = {"memory_mb": 32, "cpus": 2, "pids": 8, "nofile": 4096, "file_mb": 1, "tmp_mb": 1}


def relay_config(profile: Profile, image_id: str, outlet: Outlet, labels: dict[str, str]) -> dict[str, Any]:
    """The body of POST /containers/create.  Pure."""
    listeners = [f"{each.address}:{each.port}" for each in outlet.listeners]
    names = "dns={}:{}".format(*SERVER)
    spec = SandboxSpec(outlet.server, image_id, command=(f"{INSIDE}/{SOCKET}", names, *listeners), limits=RELAY_LIMITS)
    body = container_config(profile, spec)
    host = body["HostConfig"]
    host |= {
        "Binds": [f"{outlet.channel.directory}:{INSIDE}:ro"],
        "Sysctls": {"net.ipv4.ip_unprivileged_port_start": "0"},
        "Tmpfs": {},
        "AutoRemove": True,  # when its broker is gone, nobody is left to remove it
        "Init": False,
    }
    body |= {"Labels": labels, "OpenStdin": False, "StdinOnce": False}
    # No end point of the `none` network, whose making is half of a start's time, and no hosts file or resolv.conf of the
    # engine's: with an empty one, every resolver asks the name server on its own machine, which is the relay.
    body["NetworkDisabled"] = True
    return body | {"AttachStdin": False, "AttachStdout": False, "AttachStderr": False}


def with_files(body: dict[str, Any], outlet: Outlet) -> dict[str, Any]:
    """For Podman, which makes hosts file and resolv.conf for every container: with the rules' names in them."""
    hosts = [f"{name}:{address}" for name, address in outlet.rules.hosts()]
    files = {"ExtraHosts": hosts, "Dns": [SERVER[0]], "DnsSearch": ["."]}
    return {k: v for k, v in body.items() if k != "NetworkDisabled"} | {"HostConfig": body["HostConfig"] | files}


class Relay:
    """Usage: ``relay = await Relay.start(engine, profile, broker, image_id, "time", rules)``; a sandbox joins ``relay.id``."""

    def __init__(self, engine: Engine, outlet: Outlet, image_id: str) -> None:
        self.id = ""
        self.image_id = image_id
        self.outlet = outlet
        self.name = f"hm-relay-{outlet.server[:40]}-{secrets.token_hex(4)}"
        self._engine = engine

    @classmethod
    async def start(
        cls,
        engine: Engine,
        profile: Profile,
        broker: Broker,
        image_id: str,
        server: str,
        rules: Rules,
    ) -> Relay:
        """Returns when every listener is up.  Raises ``RelayFailed``, ``StartFailed`` or ``EngineFailed``; then, and when
        cancelled, nothing is left.  ``outlet.on_gone`` is called when it ends of itself."""
        if not engine.url.startswith(("unix://", "http+unix://")):
            raise RelayFailed(
                f"{server} has network rules, and the engine at {engine.url} cannot be given a socket of this machine",
                remedy="use an engine on this machine",
            )
        relay = cls(engine, broker.open(server, rules), image_id)
        work = engine.workers.submit(relay._run, profile, image_id)
        try:
            relay.id = await asyncio.wrap_future(work)
            await asyncio.wait_for(relay.outlet.channel.ready, READY_S)
            if relay.outlet.closed:
                raise RelayFailed(f"the relay of {server} ended at once", remedy="see: hm doctor")
        except BaseException as e:
            relay.outlet.close()
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, relay._discard, work))
            if isinstance(e, TimeoutError):
                raise RelayFailed(f"the relay of {server} did not come up", remedy="see: hm doctor") from e
            raise
        return relay

    async def stop(self) -> None:
        """Cut every connection, end it, remove it.  Idempotent."""
        self.outlet.close()
        await asyncio.wrap_future(self._engine.workers.submit(containers.remove, self._engine, self.name))

    def _run(self, profile: Profile, image_id: str) -> str:
        """In a worker thread."""
        labels = {
            LABEL_RELAY: "1",
            LABEL_HOME: self._engine.home_label,
            LABEL_OWNER: self._engine.owner,
            LABEL_SERVER: self.outlet.server,
        }
        body = relay_config(profile, image_id, self.outlet, labels)
        if self._engine.info().name == "podman":
            body = for_podman(profile, with_files(body, self.outlet))
        container = containers.create(self._engine, body, self.name)
        containers.start(self._engine, container)
        return container

    def _discard(self, work: Any) -> None:
        if not work.cancel():
            with contextlib.suppress(HarbourError):
                work.result()
        containers.remove(self._engine, self.name)


def joined(spec: SandboxSpec, relay: Relay) -> SandboxSpec:
    """``spec`` in the relay's name space, with the proxy's variables where a rule needs them."""
    return replace(spec, network_of=relay.id, env={**relay.outlet.rules.environment(), **spec.env})
