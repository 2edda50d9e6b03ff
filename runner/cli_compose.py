"""``hm model compose``: Docker Compose's provider protocol (docker/compose, ``docs/extension.md``), and the ``docker-model``
executable through which Compose finds it.

Compose runs ``docker-model compose --project-name P up --OPTION=VALUE ... SERVICE`` and reads JSON lines from stdout:
``info``, ``error``, and ``setenv``, whose variables the services that depend on it get, named after the provider's service.
"""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from harbourmaster import __version__
from harbourmaster.core.errors import HarbourError
from harbourmaster.core.settings import Settings
from runner.client import RunnerClient, own_url
from runner.errors import RunnerDown
from runner.store import fetch
from runner.store.store import ModelStore

STEP = 0.1  # of a layer, between two lines of progress
app = typer.Typer(no_args_is_help=True, help="What Docker Compose calls for `provider: {type: model}`.")

Project = Annotated[str, typer.Option(help="Compose says it; models belong to no project")]
Service = Annotated[list[str] | None, typer.Argument(help="Compose's name for the service")]

# What `up` takes, as Compose asks for it (`compose metadata`).
PARAMETERS: list[dict[str, Any]] = [
    {"name": "model", "description": "model to use; may be given again", "required": True, "type": "string"},
    {"name": "context-size", "description": "context in tokens", "required": False, "type": "integer"},
    {
        "name": "keep-alive",
        "description": "how long an idle model stays: 5m, 1h, -1",
        "required": False,
        "type": "string",
    },
    # Compose drops what is not listed here without a word; these are listed so that they are refused aloud.
    {"name": "backend", "description": "llama.cpp and no other", "required": False, "type": "string"},
    {"name": "runtime-flags", "description": "refused: hm model configure", "required": False, "type": "string"},
]


@app.callback()
def compose(project_name: Project = "") -> None:
    """Both places of --project-name are in use; neither matters here."""


@app.command()
def up(
    service: Service = None,
    model: Annotated[list[str] | None, typer.Option(help="model; may be given again")] = None,
    context_size: Annotated[int | None, typer.Option(help="tokens")] = None,
    keep_alive: Annotated[str | None, typer.Option(help="5m, 1h30m, -1 (for ever)")] = None,
    backend: Annotated[str, typer.Option(hidden=True)] = "llama.cpp",
    runtime_flags: Annotated[str, typer.Option(hidden=True)] = "",
    url: Annotated[str, typer.Option(envvar="HM_RUNNER_URL", help="address of the runner, as services reach it")] = "",
    project_name: Project = "",
) -> None:
    """Fetch and configure the models, and say where they are."""
    try:
        _up(model or [], context_size, keep_alive, url, backend, runtime_flags)
    except HarbourError as e:
        _tell("error", f"{e.message} ({e.remedy})" if e.remedy else e.message)
        raise typer.Exit(1) from None


def _up(
    models: list[str], context_size: int | None, keep_alive: str | None, url: str, backend: str, flags: str
) -> None:
    from runner.configuration import parse_keep_alive
    from runner.errors import RequestInvalid, Unsupported
    from runner.service import Runner

    if not models:
        raise RequestInvalid("no model is named", remedy="write options: {model: ai/smollm2}")
    if flags or backend != "llama.cpp":
        raise Unsupported(
            "flags for the backend and other backends are not taken from a compose file", remedy="hm model configure"
        )
    settings = Settings.load()
    address = url or own_url(settings)
    if not RunnerClient(address).is_up():
        raise RunnerDown(f"no model runner answers at {address}", remedy="start one: hm up, or hm model serve")
    runner = Runner.open(settings)
    for name in models:
        _fetch(settings, runner.store, name)
        changes = {"context_size": context_size, "keep_alive_s": parse_keep_alive(keep_alive) if keep_alive else None}
        runner.configurations.change(runner.store.find(name), changes)
    _tell("setenv", f"MODEL={','.join(models)}")
    _tell("setenv", f"URL={address}/engines/v1/")
    if urlsplit(address).hostname in ("127.0.0.1", "localhost", "::1"):
        _tell("info", "the runner listens on this machine only; for containers: hm model serve --host, and --url")


def _fetch(settings: Settings, store: ModelStore, name: str) -> None:
    if store.has(name):
        return
    _tell("info", f"pulling {name}")
    told: dict[str, float] = {}

    def progress(digest: str, current: int, total: int) -> None:
        share = current / total if total else 1.0
        if share >= told.get(digest, 0.0) + STEP or share == 1.0 != told.get(digest):
            told[digest] = share
            _tell("info", f"{name} {digest[7:19]}: {share:.0%}")

    fetch.pull(settings, store, name, progress)


@app.command()
def down(
    service: Service = None,
    model: Annotated[list[str] | None, typer.Option(hidden=True)] = None,
    project_name: Project = "",
) -> None:
    """Nothing: models are shared, and leave the memory by themselves."""


@app.command()
def metadata() -> None:
    """What `up` and `down` take, as JSON."""
    body = {"description": "Harbourmaster's model runner", "up": {"parameters": PARAMETERS}, "down": {"parameters": []}}
    sys.stdout.write(json.dumps(body) + "\n")


def plugin() -> None:
    """``docker-model``: found by Docker's command line and by Compose; every word goes to ``hm model``."""
    from harbourmaster.cli import main

    words = sys.argv[1:]
    if words == ["docker-cli-plugin-metadata"]:  # docker/cli, "CLI plugins"
        about = {
            "SchemaVersion": "0.1.0",
            "Vendor": "Harbourmaster",
            "Version": __version__,
            "ShortDescription": "Local models of Harbourmaster",
        }
        sys.stdout.write(json.dumps(about) + "\n")
        return
    main(["model", *(words[1:] if words[:1] == ["model"] else words)])


def _tell(kind: str, message: str) -> None:
    sys.stdout.write(json.dumps({"type": kind, "message": message}) + "\n")
    sys.stdout.flush()
