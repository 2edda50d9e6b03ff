"""``hm registry new | check | update``: from nothing to a pull request, and on."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harbourmaster.core.errors import UsageError
from harbourmaster.core.program import as_typed
from harbourmaster.core.settings import Settings
from registry.places import writable_dir

if TYPE_CHECKING:
    from registry.known import Examine
    from registry.lookup.found import Found
    from sandbox.engine import Engine

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Root = Annotated[Path | None, typer.Option("--root", help="Folder of entries, instead of the starter catalog.")]
Build = Annotated[bool, typer.Option("--build/--no-build", help="Build and try it in the sandbox; needs an engine.")]
Text = Annotated[str, typer.Option()]


def new(
    pypi: Annotated[str, typer.Option("--pypi", help="a Python package")] = "",
    npm: Annotated[str, typer.Option("--npm", help="a package of npm")] = "",
    git: Annotated[str, typer.Option("--git", help="the https address of a git repository")] = "",
    image: Annotated[str, typer.Option("--image", help="a publisher's image, host/name:tag")] = "",
    url: Annotated[str, typer.Option("--url", help="the address of a remote server")] = "",
    version: Annotated[str, typer.Option("--version", help="of the package; the newest by default")] = "",
    commit: Annotated[str, typer.Option("--commit", help="of the repository; the newest by default")] = "",
    directory: Annotated[str, typer.Option("--directory", help="the package's folder in the repository")] = "",
    transport: Annotated[str, typer.Option("--transport", help="streamable-http or sse")] = "streamable-http",
    private: Annotated[bool, typer.Option("--private", help="the address may be private, or on this machine")] = False,
    name: Annotated[str, typer.Option("--name", help="the folder's name")] = "",
    title: Annotated[str, typer.Option("--title")] = "",
    description: Annotated[str, typer.Option("--description")] = "",
    category: Annotated[str, typer.Option("--category")] = "",
    tag: Annotated[list[str] | None, typer.Option("--tag", help="repeat for more")] = None,
    host: Annotated[list[str] | None, typer.Option("--host", help="host:port that it needs; repeat for more")] = None,
    command: Annotated[str, typer.Option("--command", help="as one would type it")] = "",
    licence: Annotated[str, typer.Option("--licence", help="SPDX, where the package does not say")] = "",
    tool: Annotated[str, typer.Option("--tool", help="a tool to call in its test")] = "",
    arguments: Annotated[str, typer.Option("--arguments", help="JSON, for that call")] = "{}",
    expect: Annotated[str, typer.Option("--expect", help="what that call's answer contains")] = "",
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Look up a package, repository, image or address, and write the first server.yaml for it; asks where nothing is said."""
    from registry.wizard import Wishes, write_new

    origins = {"pypi": pypi, "npm": npm, "git": git, "image": image, "url": url}
    given = {kind: value for kind, value in origins.items() if value}
    if len(given) > 1:
        raise UsageError(f"a server comes from one place, not from {' and '.join(given)}", remedy="name one of them")
    if not given:
        given = dict([_asked_origin()])
    ((kind, place),) = given.items()
    settings = Settings.load()
    folder = writable_dir(settings, root)
    asked = {"version": version, "commit": commit, "directory": directory, "transport": transport}
    found = _looked_up(kind, place, private=private, **asked)
    wishes = Wishes(
        name=name,
        title=title,
        description=description,
        category=category,
        tags=tuple(tag or ()),
        hosts=tuple(host or ()),
        command=tuple(shlex.split(command)),
        licence=licence,
        tool=tool,
        arguments=_object(arguments),
        expect=expect,
    )
    written = write_new(found, wishes, folder, ask=sys.stdin.isatty() and not as_json)
    if as_json:
        print(json.dumps(written.as_dict(), indent=2))
        return
    print(written.folder)
    for line in (*found.notes, *written.left):
        print(as_typed(f"  to do: {line}"))
    print(as_typed(f"  then: hm registry test {written.folder.name}, and open a pull request"))


def _asked_origin() -> tuple[str, str]:
    if not sys.stdin.isatty():
        raise UsageError("a server from where?", remedy="name --pypi, --npm, --git, --image or --url")
    kind = typer.prompt("From pypi, npm, git, image or url", type=str).strip()
    if kind not in ("pypi", "npm", "git", "image", "url"):
        raise UsageError(f"{kind!r} is none of them", remedy="answer pypi, npm, git, image or url")
    return kind, typer.prompt("Its name or address", type=str).strip()


def _looked_up(
    kind: str, place: str, *, version: str, commit: str, directory: str, transport: str, private: bool
) -> Found:
    from registry.lookup import git, images, npm, pypi, remote

    match kind:
        case "pypi":
            return pypi.look_up(place, version)
        case "npm":
            return npm.look_up(place, version)
        case "git":
            return git.look_up(place, commit, directory)
        case "image":
            return images.look_up(place)
        case _:
            return remote.look_up(place, transport=transport, private=private)


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as e:
        raise UsageError(f"--arguments is not JSON: {e}", remedy='write --arguments \'{"name": "value"}\'') from e
    if not isinstance(value, dict):
        raise UsageError("--arguments is no object", remedy='write --arguments \'{"name": "value"}\'')
    return value


def check(
    names: Annotated[list[str] | None, typer.Argument(help="Servers; with --changed none.")] = None,
    changed: Annotated[bool, typer.Option("--changed", help="what this branch changes, by git")] = False,
    base: Annotated[str, typer.Option("--base", help="what to compare with; the pull request's base by default")] = "",
    build: Build = True,
    online: Annotated[bool, typer.Option("--online/--offline", help="ask the indexes for what is pinned")] = True,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="also write the report here")] = None,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """All that a pull request needs, as a Markdown report with a verdict for each check; exit status 1 when one fails."""
    from harbourmaster.core.files import write_atomic
    from registry.changed import Changed, changed_entries, default_base
    from registry.check import Checker
    from registry.cli_progress import progress_view
    from registry.report import Report
    from sandbox.profile import Profile

    if changed == bool(names):
        raise UsageError("check what?", remedy="name servers, or say --changed")
    settings = Settings.load()
    place = root or settings.servers_dir
    work = changed_entries(place, base or default_base()) if changed else Changed(_folders(place, names or []))
    with (
        _engine(settings, build) as engine,
        _advisories(settings, build) as known,
        progress_view(quiet=as_json) as view,
    ):
        checker = Checker(settings, engine, Profile.load(), online, view, known)
        report = Report([checker.check(folder, work.before.get(folder.name)) for folder in work.folders])
    report.notes += [f"{name} is removed" for name in work.removed]
    if work.elsewhere:
        report.notes.append(f"{len(work.elsewhere)} files elsewhere change: {', '.join(work.elsewhere[:10])}")
    text = report.markdown()
    if output:
        write_atomic(output, text.encode())
    print(json.dumps(report.as_dict(), indent=2, ensure_ascii=False) if as_json else text)
    if report.failed:
        raise typer.Exit(1)


def update(
    names: Annotated[list[str] | None, typer.Argument(help="Servers; all when none is named.")] = None,
    build: Build = True,
    write: Annotated[bool, typer.Option("--write", help="take what is proposed into the folder")] = False,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Propose newer pins, with what they change in tools, packages and permissions."""
    from registry.cli_progress import progress_view
    from registry.update import propose, show

    settings = Settings.load()
    place = writable_dir(settings, root) if write else root or settings.servers_dir
    folders = _folders(place, names or sorted(p.parent.name for p in place.glob("*/server.yaml")))
    with _engine(settings, build) as engine, progress_view(quiet=as_json) as view:
        proposals = [propose(settings, folder, engine, view) for folder in folders]
    for folder, proposal in zip(folders, proposals, strict=True):
        if write:
            proposal.take(folder)
        if not as_json:
            show(proposal, print)
    if as_json:
        rows = [
            {"name": p.name, "now": p.now, "then": p.then, "newer": p.newer, "changes": p.changes} for p in proposals
        ]
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    elif not write and any(p.newer for p in proposals):
        print(as_typed("take it with: hm registry update --write"))


def _folders(place: Path, names: list[str]) -> list[Path]:
    from registry.schema import known_folder

    return [known_folder(place, name) for name in names]


@contextlib.contextmanager
def _advisories(settings: Settings, wanted: bool) -> Iterator[Examine | None]:
    """Without an image there is nothing to compare with them."""
    if not wanted:
        yield None
        return
    from harbourmaster.up.advisories import examining

    with examining(settings) as examine:
        yield examine


@contextlib.contextmanager
def _engine(settings: Settings, wanted: bool) -> Iterator[Engine | None]:
    if not wanted:
        yield None
        return
    from sandbox.engine import Engine

    engine = Engine.connect(settings)
    try:
        yield engine
    finally:
        engine.close()
