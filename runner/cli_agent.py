"""``hm agent``: a model that uses the gateway's tools."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer

from harbourmaster.core.program import as_typed
from harbourmaster.core.settings import Settings
from runner.agent.budget import Budget
from runner.agent.wanted import Wanted
from runner.cli_output import print_json, print_table

app = typer.Typer(no_args_is_help=True, help="A model that uses the gateway's tools.")
_B = Budget()

Model = Annotated[
    str, typer.Option("--model", "-m", help="a model: smollm2, ai/smollm2:latest, or the server's name for it")
]
Profile = Annotated[str, typer.Option(help="the gateway's profile; none: everything that it serves")]
OpenAIUrl = Annotated[
    str, typer.Option("--url", envvar="HM_MODEL_URL", help="OpenAI address of the model; none: this machine's runner")
]
Key = Annotated[str, typer.Option(envvar="OPENAI_API_KEY", help="key for --url", show_default=False)]
Gateway = Annotated[str, typer.Option(envvar="HM_GATEWAY_URL", help="MCP address of the gateway; none: this machine's")]
Token = Annotated[
    str, typer.Option(envvar="HM_GATEWAY_TOKEN", help="its token; none: the default one", show_default=False)
]
Tools = Annotated[
    list[str] | None,
    typer.Option(
        "--tool", help="a tool, or a pattern such as get_*; may be given again; none: all, or those near the task"
    ),
]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="TOOL.ARGUMENT=VALUE: the model cannot choose another value")
]
Approve = Annotated[str, typer.Option(help="calls of tools that do not say they are read-only: always, never or ask")]
Choice = Annotated[
    str,
    typer.Option(
        "--tool-choice",
        help="first round: auto, none, required or a tool; empty: small models must, if a tool's name fits",
    ),
]
Rounds = Annotated[int, typer.Option(min=1, help="times that the model is asked")]
Calls = Annotated[int, typer.Option(min=0, help="calls in all")]
Tokens = Annotated[int, typer.Option(min=1, help="tokens that the model may write in all")]
Seconds = Annotated[float, typer.Option(min=0.1, help="time in all")]
Resume = Annotated[str, typer.Option(help="go on from a run: its name, or last")]
Temperature = Annotated[float | None, typer.Option(min=0, help="0: the likeliest words")]
Seed = Annotated[int | None, typer.Option()]
Json = Annotated[bool, typer.Option("--json", help="print the report as JSON")]
System = Annotated[str, typer.Option(help="system message")]
Parallel = Annotated[
    bool, typer.Option("--parallel/--one-by-one", help="several calls at once; small models do better one by one")
]


def _wanted(
    model: Model = "",
    profile: Profile = "",
    url: OpenAIUrl = "",
    key: Key = "",
    gateway: Gateway = "",
    token: Token = "",
    tool: Tools = None,
    fixed: Set = None,
    approve: Approve = "ask",
    tool_choice: Choice = "",
    rounds: Rounds = _B.rounds,
    calls: Calls = _B.calls,
    tokens: Tokens = _B.tokens,
    seconds: Seconds = _B.seconds,
    resume: Resume = "",
    system: System = "",
    temperature: Temperature = None,
    seed: Seed = None,
    parallel: Parallel = False,
) -> Wanted:
    """The options of every command that starts a run."""
    options = {"temperature": temperature, "seed": seed}
    return Wanted(
        model, profile, url, key, gateway, token, tuple(tool or ()), tuple(fixed or ()), _rule(approve), tool_choice,
        Budget(rounds, calls, tokens, seconds), resume, system, {k: v for k, v in options.items() if v is not None},
        parallel,
    )  # fmt: skip


def _with_options(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` with the options of ``_wanted`` in place of its parameter ``wanted``."""
    own = {n: p for n, p in inspect.signature(command, eval_str=True).parameters.items() if n != "wanted"}
    shared = inspect.signature(_wanted, eval_str=True).parameters

    def called(**given: Any) -> None:
        command(wanted=_wanted(**{n: given.pop(n) for n in shared}), **given)

    every = {**own, **shared}
    called.__name__, called.__doc__ = command.__name__, command.__doc__
    called.__annotations__ = {n: p.annotation for n, p in every.items()}
    called.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in every.values()]
    )
    return called


@app.command()
@_with_options
def run(
    wanted: Wanted,
    task: Annotated[str, typer.Argument(help="what to do; - reads it from stdin")],
    as_json: Json = False,
) -> None:
    """Do a task.  Exit status 0: the model answered; 1: it did not, and the last line says why."""
    from runner.agent.console import run_once

    text = sys.stdin.read() if task == "-" else task
    if not asyncio.run(run_once(Settings.load(), wanted, text, as_json=as_json)).ok:
        raise typer.Exit(1)


@app.command()
@_with_options
def chat(wanted: Wanted) -> None:
    """Talk with a model that uses tools (/bye ends); budgets are for each question."""
    from runner.agent.console import converse

    asyncio.run(converse(Settings.load(), wanted))


@app.command()
def ls(as_json: Json = False) -> None:
    """Runs that were kept, oldest first."""
    from runner.agent import transcript
    from runner.agent.view import printable, short

    settings = Settings.load()
    found = [transcript.load(settings, name) for name in transcript.runs(settings)]
    if as_json:
        print_json([{"run": r.id, **r.about, "task": r.task, "reports": r.reports} for r in found])
        return
    rows = [
        [r.id, str(r.about.get("model", "")), str(r.reports[-1]["outcome"]) if r.reports else "interrupted",
         printable(short(r.task)[:60])]
        for r in found
    ]  # fmt: skip
    print_table(["RUN", "MODEL", "OUTCOME", "TASK"], rows, as_typed("no runs yet: hm agent run TASK"))


@app.command()
def show(name: Annotated[str, typer.Argument(help="a run, or last")] = "last") -> None:
    """One run whole, as JSON."""
    from runner.agent import transcript

    known = transcript.load(Settings.load(), name)
    print_json(
        {"run": known.id, **known.about, "messages": known.messages, "calls": known.calls, "reports": known.reports}
    )


def _rule(text: str) -> Literal["always", "never", "ask"]:
    if text not in ("always", "never", "ask"):
        raise typer.BadParameter("always, never or ask", param_hint="--approve")
    return text  # type: ignore[return-value]
