"""``hm model``: local models, in the words of ``docker model``."""

from __future__ import annotations

from typing import Annotated

import typer

from harbourmaster.core import logs
from harbourmaster.core.settings import RUNNER_PORT, Settings

app = typer.Typer(no_args_is_help=True, help="Local models: store, run, serve.")


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
