"""``hm model``: local models, in the words of ``docker model``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from harbourmaster.core import logs
from harbourmaster.core.program import as_typed
from harbourmaster.core.settings import RUNNER_PORT, Settings
from runner import cli_compose, cli_files
from runner.cli_output import model_rows, print_json, print_table, until
from runner.client import RunnerClient, own_url
from runner.store.config import human_bytes
from runner.store.store import Model, ModelStore

app = typer.Typer(no_args_is_help=True, help="Local models: store, run, serve.")
app.add_typer(cli_compose.app, name="compose", help="What Docker Compose calls for `provider: {type: model}`")
app.command()(cli_files.export)
app.command(name="import")(cli_files.import_file)
app.command()(cli_files.search)
app.command()(cli_files.bench)
app.command()(cli_files.sign)
app.command()(cli_files.verify)
app.command()(cli_files.connect)
app.command()(cli_files.disconnect)

Name = Annotated[str, typer.Argument(help="a model: smollm2, ai/smollm2:latest, or an ID")]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]
Url = Annotated[str, typer.Option(envvar="HM_RUNNER_URL", help="address of the runner; empty: the one of hm up")]
PlainHttp = Annotated[bool, typer.Option("--plain-http", help="allow a registry without TLS")]


def _client(url: str) -> RunnerClient:
    return RunnerClient(url or own_url(Settings.load()))


def _store() -> ModelStore:
    return ModelStore(Settings.load().home / "models")


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port; 12434 is where clients look")] = RUNNER_PORT,
    preload: Annotated[list[str] | None, typer.Option(help="model to load at once; may be given again")] = None,
) -> None:
    """Serve the OpenAI, Docker, Anthropic and Ollama APIs."""
    from runner.server import serve as run

    settings = Settings.load()
    logs.configure(settings.log_level)
    run(settings, host=host, port=port, preload=tuple(preload or ()))


@app.command(name="list", hidden=True)
@app.command()
def ls(as_json: Json = False, quiet: Annotated[bool, typer.Option("-q", help="only IDs")] = False) -> None:
    """Models in the store."""
    from runner.service import Runner

    runner = Runner.open(Settings.load())
    models = runner.store.all()
    if as_json:
        print_json([m.as_docker() for m in models])
    elif quiet:
        sys.stdout.writelines(f"{m.id}\n" for m in models)
    else:
        columns = ["MODEL NAME", "PARAMETERS", "QUANTIZATION", "ARCHITECTURE", "MODEL ID", "CREATED", "CONTEXT", "SIZE"]
        rows = model_rows(models, lambda m: runner.context_of(m) if m.config.format == "gguf" else "")
        rows += [[r.name, "", "", "", r.url, "", str(r.context or ""), ""] for r in runner.remotes.all()]
        spare = ("CREATED", "ARCHITECTURE", "MODEL ID", "QUANTIZATION", "CONTEXT")
        print_table(columns, rows, as_typed("no models yet: hm model pull ai/smollm2, or hm model starter"), spare)


@app.command()
def inspect(name: Name) -> None:
    """A model's config, layers and facts, as JSON."""
    model = _store().find(name)
    layers = {role: [d.as_dict() for d in found] for role, found in model.layers.items()}
    print_json({**model.as_docker(), "format": model.config.kind, "layers": layers})


@app.command()
def pull(name: Name, plain_http: PlainHttp = False) -> None:
    """Fetch a model from a registry; goes on where a broken pull stopped."""
    from runner.cli_progress import pull_progress
    from runner.store import fetch

    with pull_progress() as progress:
        model = fetch.pull(Settings.load(), _store(), name, progress, plain_http=plain_http)
    _said(f"pulled {model.name}", model)


@app.command()
def push(name: Name, plain_http: PlainHttp = False) -> None:
    """Upload a model under its name."""
    from runner.store import transfer

    sys.stdout.write(f"pushed {transfer.push(_store(), name, plain_http=plain_http)}\n")


@app.command()
def package(
    tag: Annotated[str, typer.Argument(help="name for the model")],
    gguf: Annotated[list[Path] | None, typer.Option(help="weights; once for each shard, in order")] = None,
    source: Annotated[
        str, typer.Option("--from", help="another model, in place of files: only --context-size differs")
    ] = "",
    license_file: Annotated[list[Path] | None, typer.Option("--license", help="licence text")] = None,
    chat_template: Annotated[Path | None, typer.Option(help="Jinja chat template in place of the model's")] = None,
    mmproj: Annotated[Path | None, typer.Option(help="projector of a multimodal model")] = None,
    lora: Annotated[list[Path] | None, typer.Option(help="LoRA adapter")] = None,
    context_size: Annotated[int | None, typer.Option(help="context in tokens")] = None,
    form: Annotated[str, typer.Option("--format", help="docker or cncf")] = "docker",
    push_too: Annotated[bool, typer.Option("--push", help="upload it afterwards")] = False,
    plain_http: PlainHttp = False,
) -> None:
    """Make a model of GGUF files."""
    from runner.store import transfer
    from runner.store.package import Parts, repackage
    from runner.store.package import package as make

    if source:
        _said(f"packaged {tag}", repackage(_store(), source, tag, context_size=context_size or 0))
        return
    parts = Parts(
        weights=tuple(gguf or ()),
        licenses=tuple(license_file or ()),
        template=chat_template,
        mmproj=mmproj,
        loras=tuple(lora or ()),
        context_size=context_size,
        format=form,
    )
    store = _store()
    _said(f"packaged {tag}", make(store, parts, tag))
    if push_too:
        transfer.push(store, tag, plain_http=plain_http)


@app.command()
def starter(
    embeddings: Annotated[bool, typer.Option("--embeddings", help="the embedding model, all-MiniLM-L6-v2")] = False,
) -> None:
    """Put a starter model into the store: SmolLM2-135M-Instruct, for chat."""
    from runner.store.starter import MINILM, SMOLLM2
    from runner.store.starter import install as fetch

    model = fetch(_store(), MINILM if embeddings else SMOLLM2)
    _said(f"{model.name} is there", model)


@app.command()
def tag(name: Name, new: Annotated[str, typer.Argument(help="another name for it")]) -> None:
    """Give a model another name."""
    _said(f"tagged {new}", _store().tag(name, new))


@app.command()
def rm(names: list[str], force: Annotated[bool, typer.Option("-f", "--force")] = False) -> None:
    """Remove names; the last name takes the model's files with it."""
    store = _store()
    for name in names:
        for event in store.remove(name, force=force):
            sys.stdout.writelines(f"{what}: {which}\n" for what, which in event.items())


@app.command()
def prune() -> None:
    """Remove files that no model needs."""
    sys.stdout.write(f"freed {human_bytes(_store().prune())}\n")


@app.command()
def df(as_json: Json = False) -> None:
    """Disk that models take."""
    used = _store().disk_usage()
    if as_json:
        print_json({"models_disk_usage": used})
    else:
        print_table(["TYPE", "SIZE"], [["Models", human_bytes(used)]], "")


@app.command()
def ps(as_json: Json = False, url: Url = "") -> None:
    """Models in memory."""
    entries = _client(url).get("/engines/ps")
    if as_json:
        print_json(entries)
        return
    rows = [
        [e["model_name"], e["backend_name"], human_bytes(e["memory"]), str(e["requests"]), until(e)] for e in entries
    ]
    print_table(["MODEL NAME", "BACKEND", "MEMORY", "REQUESTS", "UNTIL"], rows, "no model is loaded")


@app.command()
def load(name: Name, url: Url = "") -> None:
    """Load a model before it is asked for."""
    _client(url).post("/api/generate", {"model": name, "prompt": ""})
    sys.stdout.write(f"{name} is loaded\n")


@app.command(name="stop", hidden=True)
@app.command()
def unload(
    names: Annotated[list[str] | None, typer.Argument()] = None,
    everything: Annotated[bool, typer.Option("--all", help="all models")] = False,
    url: Url = "",
) -> None:
    """Take models out of memory."""
    if not names and not everything:
        raise typer.BadParameter("name a model, or use --all")
    done = _client(url).post("/engines/unload", {"all": everything, "models": names or []})
    sys.stdout.write(f"unloaded {done['unloaded_runners']}\n")


@app.command()
def status(as_json: Json = False, url: Url = "") -> None:
    """Is the engine installed, does a runner answer, what does it use?"""
    from runner.install import is_installed
    from runner.setup import state

    client = _client(url)
    running = client.is_up()
    # Compose's `models:` gives `endpoint` to services (docker/compose, pkg/compose/model.go); Docker's names for both.
    address = f"{client.url}/engines/v1/"
    body: dict[str, Any] = {
        "engine_installed": is_installed(),
        "running": running,
        "kind": "Harbourmaster",
        "endpoint": address,
        "endpointHost": address,
    }
    if running:
        body["backends"] = client.get("/engines/status")
    if as_json:
        print_json(body)
        return
    engine = "installed" if body["engine_installed"] else as_typed("not installed (run: hm model setup)")
    if not body["engine_installed"] and state(Settings.load()) == "preparing":
        engine = "is being compiled, which takes some minutes"
    rows = [
        ["engine", engine],
        ["runner", f"answers at {client.url}" if running else f"does not answer at {client.url}"],
    ]
    rows += [[name, text] for name, text in body.get("backends", {}).items()]
    print_table(["WHAT", "STATUS"], rows, "")


@app.command()
def install(jobs: Annotated[int, typer.Option(help="compilers at once; 0: one per core")] = 0) -> None:
    """Compile and install the engine (llama.cpp), from pinned sources."""
    from runner.install import has_kernels, is_installed
    from runner.install import install as build

    if is_installed() and has_kernels():
        sys.stdout.write("the engine is installed\n")
        return
    build(_note, jobs=jobs)
    sys.stdout.write("the engine is installed\n")


@app.command()
def setup(jobs: Annotated[int, typer.Option(help="compilers at once; 0: one per core")] = 0) -> None:
    """The engine and the starter models, as far as they are missing; `hm up` does it in the background."""
    from runner.setup import prepare

    prepare(Settings.load(), _note, jobs=jobs)
    sys.stdout.write("the engine and the starter models are ready\n")


@app.command()
def run(
    name: Name,
    prompt: Annotated[str | None, typer.Argument(help="ask this; without it, a conversation")] = None,
    system: Annotated[str, typer.Option(help="system message")] = "",
    temperature: Annotated[float | None, typer.Option()] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    max_tokens: Annotated[int | None, typer.Option()] = None,
    image: Annotated[
        list[Path] | None, typer.Option(exists=True, dir_okay=False, help="a picture for PROMPT; may be given again")
    ] = None,
    url: Url = "",
) -> None:
    """Ask a model once, or talk with it (/bye ends)."""
    from runner.cli_chat import converse

    options = {"temperature": temperature, "seed": seed, "max_tokens": max_tokens}
    chosen = {k: v for k, v in options.items() if v is not None}
    if image and prompt is None:
        raise typer.BadParameter("say what to do with it: hm model run MODEL PROMPT --image FILE", param_hint="--image")
    converse(Settings.load(), name, prompt, system, chosen, url, image or [])


@app.command(name="logs")
def show_logs(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on as they say more")] = False, url: Url = ""
) -> None:
    """What the engines of loaded models said."""
    for line in _client(url).lines(f"/logs?follow={str(follow).lower()}"):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


@app.command()
def configure(
    name: Name,
    context_size: Annotated[int | None, typer.Option(help="tokens")] = None,
    keep_alive: Annotated[str | None, typer.Option(help="5m, 1h30m, 0 (at once), -1 (for ever)")] = None,
    parallel: Annotated[int | None, typer.Option(help="requests at once")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads")] = None,
    gpu_layers: Annotated[int | None, typer.Option(help="layers on the GPU; -1: all")] = None,
    speculative_tokens: Annotated[int | None, typer.Option(help="in a step with guesses; 0: do not guess")] = None,
    pinned: Annotated[bool | None, typer.Option("--pin/--no-pin", help="never evict it")] = None,
    backend: Annotated[str | None, typer.Option(help="llama.cpp, or llama-server if you installed it")] = None,
    lora: Annotated[
        list[str] | None, typer.Option(help="ADAPTER=SCALE, counted from 0; those not named are off")
    ] = None,
) -> None:
    """Settings of one model, kept until they are changed; the next load uses them."""
    from runner.configuration import parse_keep_alive
    from runner.service import Runner

    runner = Runner.open(Settings.load())
    changes: dict[str, Any] = {
        "context_size": context_size,
        "keep_alive_s": None if keep_alive is None else parse_keep_alive(keep_alive),
        "parallel": parallel,
        "threads": threads,
        "gpu_layers": gpu_layers,
        "speculative_tokens": speculative_tokens,
        "pinned": pinned,
        "backend": backend,
        "lora": [_scale(text) for text in lora] if lora else None,
    }
    print_json(vars(runner.configurations.change(runner.store.find(name), changes)))


def _scale(text: str) -> tuple[int, float]:
    number, equals, scale = text.partition("=")
    try:
        return int(number), float(scale) if equals else 1.0
    except ValueError:
        raise typer.BadParameter("write ADAPTER=SCALE, such as 0=0.5", param_hint="--lora") from None


def _note(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _said(what: str, model: Model) -> None:
    sys.stdout.write(f"{what}: {model.id}\n")
