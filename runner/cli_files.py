"""``hm model export | import | search | bench``."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from harbourmaster.core.files import atomic_writer
from harbourmaster.core.settings import Settings
from runner.cli_output import print_json, print_table
from runner.client import own_url
from runner.remotes import Remotes
from runner.store.config import human_bytes
from runner.store.store import ModelStore

Name = Annotated[str, typer.Argument(help="a model: smollm2, ai/smollm2:latest, or an ID")]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]


def export(name: Name, output: Annotated[Path, typer.Option("--output", "-o", help="file; - is stdout")]) -> None:
    """Write a model into one tar file: what Docker's runner loads, and an OCI image layout."""
    from runner.store.archive import export as open_archive

    stream = open_archive(ModelStore(Settings.load().home / "models"), name)
    if str(output) == "-":
        shutil.copyfileobj(stream, sys.stdout.buffer)
        return
    with atomic_writer(output) as f:
        shutil.copyfileobj(stream, f)
    sys.stdout.write(f"wrote {output}: {human_bytes(len(stream))}\n")


def import_file(
    file: Annotated[Path, typer.Argument(help="a tar file of a model; - is stdin")],
    name: Annotated[str, typer.Argument(help="its name here; none: the one in the file")] = "",
) -> None:
    """Take a model out of a tar file."""
    from runner.store.archive import load

    store = ModelStore(Settings.load().home / "models")
    if str(file) == "-":
        model = load(store, sys.stdin.buffer, name)
    else:
        with file.open("rb") as f:
            model = load(store, f, name)
    sys.stdout.write(f"loaded {model.name}: {model.id}\n")


def search(
    term: Annotated[str, typer.Argument(help="part of a name")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100)] = 32,
    source: Annotated[str, typer.Option(help="all, dockerhub or huggingface")] = "all",
    as_json: Json = False,
) -> None:
    """Models that can be pulled."""
    from runner.store.search import search as look

    if source not in ("all", "dockerhub", "huggingface"):
        raise typer.BadParameter("all, dockerhub or huggingface", param_hint="--source")
    found = look(term, source=source, limit=limit)
    if as_json:
        print_json([f.as_dict() for f in found])
        return
    rows = [[f.name, f.description[:60], str(f.pulls), str(f.stars), f.updated[:10]] for f in found]
    print_table(["NAME", "DESCRIPTION", "PULLS", "STARS", "UPDATED"], rows, "nothing found")


def bench(
    name: Name,
    concurrency: Annotated[str, typer.Option(help="numbers of parallel streams, each measured")] = "1,2,4,8",
    duration: Annotated[str, typer.Option(help="time for each: 30s, 1m")] = "30s",
    prompt: Annotated[str, typer.Option()] = "Write a short story about a harbour.",
    tokens: Annotated[int, typer.Option(min=1, help="of each answer, at most")] = 128,
    timeout: Annotated[str, typer.Option(help="limit of one request")] = "5m",
    url: Annotated[
        str, typer.Option(envvar="HM_RUNNER_URL", help="address of the runner; empty: the one of hm up")
    ] = "",
    as_json: Json = False,
) -> None:
    """Measure tokens per second and the time to the first one, at several numbers of parallel streams."""
    from runner.bench import bench as measure
    from runner.configuration import parse_keep_alive

    try:
        numbers = [int(n) for n in concurrency.split(",")]
    except ValueError:
        raise typer.BadParameter("numbers with commas: 1,2,4", param_hint="--concurrency") from None
    if not numbers or not all(0 < n <= 256 for n in numbers):
        raise typer.BadParameter("numbers from 1 to 256", param_hint="--concurrency")
    seconds, limit = parse_keep_alive(duration), parse_keep_alive(timeout)
    url = url or own_url(Settings.load())
    asyncio.run(measure(url, name, prompt, 1, duration_s=0.001, timeout_s=limit, tokens=1))  # loads the model
    done = [
        asyncio.run(measure(url, name, prompt, n, duration_s=seconds, timeout_s=limit, tokens=tokens)).as_dict()
        for n in numbers
    ]
    if as_json:
        print_json({"model": name, "prompt": prompt, "results": done})
        return
    columns = ["STREAMS", "REQUESTS", "FAILED", "TOKENS/S", "PER STREAM", "FIRST TOKEN P50", "P95"]
    rows = [
        [str(r["concurrency"]), str(r["requests"]), str(r["failed"]), f"{r['tokens_per_second']:.1f}",
         f"{r['tokens_per_second_per_stream']:.1f}", f"{r['first_token_ms_p50']} ms", f"{r['first_token_ms_p95']} ms"]
        for r in done
    ]  # fmt: skip
    print_table(columns, rows, "")


def sign(name: Name) -> None:
    """Sign a model with this installation's key; `push` takes the signature along."""
    from policies.keys import SigningKey
    from runner.store.signing import sign as attach

    settings = Settings.load()
    key = SigningKey.load_or_create(settings.keys_dir)
    bundle = attach(ModelStore(settings.home / "models"), name, key)
    sys.stdout.write(f"signed {name} with {key.key_id}: {bundle}\n")


def verify(name: Name, as_json: Json = False) -> None:
    """Who signed a model, by the rules of tier `model` in trust.yaml; reads every byte of it."""
    from policies.trust import TrustPolicy
    from runner.store import signing

    settings = Settings.load()
    store = ModelStore(settings.home / "models")
    model = store.find(name)
    wanted = signing.requirement(TrustPolicy.load(settings), model.name)
    signature, bundle = signing.check(store, model.id, wanted)
    read = sum(store.layout.verify_blob(b.digest) for b in model.manifest.blobs)
    body = {
        "model": model.name,
        "id": model.id,
        "signer": signature.signer,
        "rule": wanted.rule,
        "bundle": bundle,
        "bytes": read,
    }
    if as_json:
        print_json(body)
    else:
        sys.stdout.write(
            f"{model.name} is signed by {signature.signer} (trust rule {wanted.rule!r}); all {read} bytes match\n"
        )


def connect(
    name: Annotated[str, typer.Argument(help="its name here")],
    address: Annotated[str, typer.Argument(metavar="URL", help="OpenAI address of the server: http://HOST:PORT/v1")],
    model: Annotated[str, typer.Option(help="that server's name for it; none: the same")] = "",
    key_env: Annotated[str, typer.Option(help="environment variable that holds its key")] = "",
    context_size: Annotated[int, typer.Option(min=0, help="tokens; 0: not known")] = 0,
) -> None:
    """Name a model that another server runs: llama-server, vLLM, any that speaks OpenAI's API."""
    from runner.agent.models import base_url
    from runner.remotes import Remote

    made = _remotes().put(Remote(name, base_url(address), model or name, key_env, context_size))
    sys.stdout.write(f"{made.name} is {made.model} at {made.url}\n")


def disconnect(name: Annotated[str, typer.Argument(help="its name here")]) -> None:
    """Forget such a name."""
    _remotes().remove(name)


def _remotes() -> Remotes:
    return Remotes(Settings.load().home / "models" / "remotes.json")
