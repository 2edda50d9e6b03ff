"""``hm catalog add``: take a server out of the catalog and into the lock."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from catalog.cli_output import console, print_json
from catalog.cli_store import Json, opened
from harbourmaster.core.program import as_typed


def add(
    name: Annotated[str, typer.Argument(help="a server of the catalog")],
    source: Annotated[str, typer.Option("--source", help="that source's entry")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    as_json: Json = False,
) -> None:
    """Pull a server's image with its papers, verify them by the trust given here, and lock it."""
    from harbourmaster.up.adopting import adopt, adopt_remote, offer, require_no_starter
    from registry.cli_progress import progress_view

    lines: list[str] = []
    with opened() as (store, settings), progress_view(quiet=True) as view:
        say = lines.append if as_json else console().print
        require_no_starter(settings, name)
        taken = offer(store, name, source)
        if taken.entry.remote is not None:
            adopt_remote(settings, taken, say, yes=yes)
            console().print(
                as_typed(f"{taken.entry.name} is known; connect to it with: hm server add {taken.entry.name}")
            )
            return
        line = adopt(settings, store, name, say, source=source, yes=yes, progress=view)
    if as_json:
        print_json(dataclasses.asdict(line) | {"shown": lines})
    else:
        state = (
            "is served"
            if line.enabled
            else as_typed(f"is locked; it needs configuration: hm server inspect {line.name}")
        )
        console().print(f"{line.name} {state}")
