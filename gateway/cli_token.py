"""``hm token show|ls|create|revoke``: the bearer tokens that clients present, and what each may do."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from gateway.principals import SCOPES
from gateway.tokens import DEFAULT, KEPT, TokenInfo, TokenStore
from harbourmaster.core.audit import AuditLog
from harbourmaster.core.errors import HarbourError, UsageError
from harbourmaster.core.program import as_typed
from harbourmaster.core.settings import Settings

app = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="what the token is for; audit records carry it")]
Scopes = Annotated[list[str] | None, typer.Option("--scope", help=f"may be repeated: {', '.join(SCOPES)}")]
Profiles = Annotated[list[str] | None, typer.Option("--profile", help="only this profile; may be repeated")]
Servers = Annotated[list[str] | None, typer.Option("--server", help="only this server; may be repeated")]
Expires = Annotated[str, typer.Option(metavar="WHEN", help="30m, 12h, 90d, or a time such as 2027-01-31T12:00:00Z")]

_SPAN = re.compile(r"([1-9][0-9]{0,4})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


@app.command("show")
def show(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help=f"one of {', '.join(KEPT)}; others are not kept")
    ] = DEFAULT,
) -> None:
    """Print a token that is kept, alone on a line; it is made on first use.  The default one may do everything."""
    if name not in KEPT:
        raise UsageError(f"{name} is not kept, only its hash is", remedy="make a new one: hm token create NAME")
    print(_store().kept(name))


@app.command("ls")
def ls(as_json: Annotated[bool, typer.Option("--json", help="machine-readable")] = False) -> None:
    """The tokens by name and what they may do; never their values."""
    tokens = _store().list()
    if as_json:
        print(json.dumps([_row(t) for t in tokens], indent=2))
        return
    if not tokens:
        print(as_typed("no tokens yet: hm token show makes the default one"))
    width = max((len(t.name) for t in tokens), default=4)
    for token in tokens:
        print(f"{token.name:<{width}}  {token.created}  sha256:{token.sha256[:12]}  {_may(token)}")


@app.command("create")
def create(
    name: Name, scope: Scopes = None, profile: Profiles = None, server: Servers = None, expires: Expires = ""
) -> None:
    """Make a token for one client or person and print it; it is shown this once."""
    ends = _moment(expires) if expires else ""
    settings = Settings.load()
    store = TokenStore(settings.tokens_file)
    token = store.create(name, scopes=scope or (), profiles=profile or (), servers=server or (), expires=ends)
    may = {
        "scopes": sorted(set(scope or ())),
        "profiles": sorted(set(profile or ())),
        "servers": sorted(set(server or ())),
    }
    try:
        _record(
            settings, {"event": "create", "name": name, **{k: v for k, v in may.items() if v}, "expires": ends or None}
        )
    except HarbourError:
        store.revoke(name)  # what is not on record was not given
        raise
    print(token)


@app.command("revoke")
def revoke(name: Name) -> None:
    """Forget a token; whoever holds it is refused from now on."""
    settings = Settings.load()
    TokenStore(settings.tokens_file).revoke(name)
    print(f"{name} is revoked")
    _record(settings, {"event": "revoke", "name": name})  # after it: a full disk must not keep a token alive


def _store() -> TokenStore:
    return TokenStore(Settings.load().tokens_file)


def _record(settings: Settings, facts: dict[str, Any]) -> None:
    audit = AuditLog(settings.audit_dir)
    try:
        audit.append_durably({"kind": "token", **facts})
    finally:
        audit.close()


def _row(token: TokenInfo) -> dict[str, Any]:
    principal = token.principal
    return {
        "name": token.name,
        "created": token.created,
        "sha256": token.sha256,
        "scopes": sorted(principal.scopes),
        "profiles": list(token.profiles),
        "servers": list(token.servers),
        "expires": token.expires or None,
    }


def _may(token: TokenInfo) -> str:
    words = [" ".join(scope for scope in SCOPES if scope in token.principal.scopes)]
    words += [f"profiles: {', '.join(token.profiles)}"] if token.profiles else []
    words += [f"servers: {', '.join(token.servers)}"] if token.servers else []
    words += [f"until {token.expires}"] if token.expires else []
    return "; ".join(words)


def _moment(text: str) -> str:
    """RFC 3339 in UTC, of a span from now or a time.  Raises ``UsageError``; a time that is past is refused too."""
    now = datetime.now(UTC)
    span = _SPAN.fullmatch(text)
    try:
        when = now + timedelta(**{_UNITS[span[2]]: int(span[1])}) if span else datetime.fromisoformat(text)
    except ValueError as e:
        raise UsageError(f"--expires {text}: not a time", remedy="write 12h, 90d or 2027-01-31T12:00:00Z") from e
    when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    if when <= now:
        raise UsageError(f"--expires {text}: that is past", remedy="name a time that is still to come")
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
