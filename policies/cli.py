"""`hm policy`: what may run, who is trusted, and why a verdict is what it is."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harbourmaster.core.errors import NotFoundError, UsageError
from harbourmaster.core.settings import Settings
from policies import statements
from policies.admission import EntryFacts, Verdict, decide
from policies.authorization import CallPolicies
from policies.authorization import builtin_files as call_files
from policies.evidence import SEVERITIES, AttestationFact, Evidence, Signature, Vulnerabilities
from policies.keys import SigningKey
from policies.policy_set import Policy, PolicySet, builtin_files, builtin_schema
from policies.trust import TIERS, TrustPolicy

app = typer.Typer(no_args_is_help=True, help="The policies that decide what may run and who may call what.")

AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
PAPERS = {"sbom": statements.SBOM, "provenance": statements.PROVENANCE, "listing": statements.LISTING}
_NOBODY = "sha256:" + "0" * 64


@app.command("ls")
def list_policies(as_json: AsJson = False) -> None:
    """The policies in force for images and for calls, and the trust rules in the order in which they are asked."""
    settings = Settings.load()
    policies, trust, calls = PolicySet.load(settings), TrustPolicy.load(settings), CallPolicies.load(settings).set
    if as_json:
        rules = [rule.as_dict() for rule in trust.rules]
        _json(
            {
                "admission": {"digest": policies.digest, "policies": [_policy(p) for p in policies.policies]},
                "calls": {"digest": calls.digest, "policies": [_policy(p) for p in calls.policies]},
                "trust": {"digest": trust.digest, "source": trust.source, "rules": rules},
            }
        )
        return
    console = Console()
    for title, chosen in (("What may run", policies), ("Who may call what", calls)):
        console.print(f"{title}:", markup=False)
        table = _table("POLICY", "EFFECT", "BECAUSE", "FILE")
        for policy in chosen.policies:
            _row(table, policy.id, policy.effect, policy.reason, Path(policy.source).name)
        console.print(table)
        console.print()
    console.print(f"Trust: {trust.source}", markup=False)
    table = _table("RULE", "TIER", "SERVERS", "ACCEPTS")
    for rule in trust.rules:
        need = rule.requirement
        accepted = [f"key {key.key_id[:19]}" for key in need.keys]
        accepted += [f"{i.identity or i.identity_regex} ({i.issuer})" for i in need.identities]
        _row(table, need.rule, rule.tier, " ".join(rule.servers), "\n".join(accepted) or "nobody")
    console.print(table)


@app.command()
def check(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Cedar or trust YAML files; default: those in force.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check policies and trust rules without using them; exit status 1 says what is wrong and where."""
    settings = Settings.load()
    if not files:
        policies, trust, calls = PolicySet.load(settings), TrustPolicy.load(settings), CallPolicies.load(settings)
        checked = [*(name for name, _ in (*policies.files, *calls.set.files)), trust.source]
    else:
        for path in files:
            _check_file(path, settings)
        checked = [str(path) for path in files]
    if as_json:
        _json({"ok": checked})
        return
    for name in checked:
        typer.echo(f"✔ {name}")


@app.command()
def explain(
    policy_id: Annotated[str, typer.Argument(metavar="POLICY", help="The id that a verdict named.")],
    as_json: AsJson = False,
) -> None:
    """Show one policy: what it decides, why, what would change it, and its Cedar text's file."""
    settings = Settings.load()
    policies, calls = PolicySet.load(settings), CallPolicies.load(settings).set
    policy = policies.get(policy_id)
    if policy is None:
        policies, policy = calls, calls.get(policy_id)
    if policy is None:
        raise NotFoundError(f"no policy has the id {policy_id!r}", remedy="see them all: hm policy ls")
    if as_json:
        _json(_policy(policy) | {"text": _source_text(policies, policy)})
        return
    typer.echo(f"{policy.id} ({policy.effect}), from {policy.source}")
    typer.echo(f"  it decides because: {policy.reason}")
    typer.echo(f"  what to do: {policy.remedy}\n")
    typer.echo(_source_text(policies, policy))


@app.command("test")
def what_if(
    tier: Annotated[str, typer.Option(help=f"One of {', '.join(TIERS)}.")] = "built",
    without: Annotated[list[str] | None, typer.Option(help="signature, sbom, provenance or listing.")] = None,
    relaxation: Annotated[list[str] | None, typer.Option(help="A sandbox relaxation that the entry asks for.")] = None,
    approved: Annotated[list[str] | None, typer.Option(help="A relaxation that a person approved.")] = None,
    severity: Annotated[str, typer.Option(help=f"Worst known vulnerability: {', '.join(SEVERITIES)}.")] = "",
    pinned: Annotated[bool, typer.Option(help="The entry pins the publisher's digest.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask the policies about an image that does not exist; exit status 1 when it could not run."""
    facts = EntryFacts(tuple(relaxation or ()), tuple(approved or ()), digest_pinned=pinned)
    verdict = decide(_imagined(tier, set(without or ()), severity), facts, PolicySet.load(Settings.load()))
    if as_json:
        _json({"allowed": verdict.allowed, "policies": list(verdict.policies), "reasons": _reasons(verdict)})
    else:
        typer.echo("✔ would run" if verdict.allowed else "✘ would be refused")
        for reason in verdict.reasons:
            typer.echo(f"  {reason.policy}: {reason.reason}")
            if not verdict.allowed:
                typer.echo(f"    what to do: {reason.remedy}")
    if not verdict.allowed:
        raise typer.Exit(1)


def _imagined(tier: str, without: set[str], severity: str) -> Evidence:
    unknown = without - {"signature", *PAPERS}
    if unknown:
        raise UsageError(f"--without {sorted(unknown)[0]}: no such paper", remedy=f"use signature, {', '.join(PAPERS)}")
    worst = next((known for known in SEVERITIES if known == severity), None)
    if severity and worst is None:
        raise UsageError(f"--severity {severity}: no such severity", remedy=f"use one of {', '.join(SEVERITIES)}")
    signature = Signature("key", key_id=_NOBODY)
    papers = {
        name: None if name in without else AttestationFact(kind, _NOBODY, signature, {})
        for name, kind in PAPERS.items()
    }
    return Evidence(
        "imagined", tier, _NOBODY, _NOBODY, _NOBODY, (), None if "signature" in without else signature, **papers,
        vulnerabilities=Vulnerabilities(worst) if worst else None, verified_at=datetime.now(UTC),
    )  # fmt: skip


def _check_file(path: Path, settings: Settings) -> None:
    try:
        text = path.read_bytes()
    except OSError as e:
        raise UsageError(f"{path}: {e.strerror}", remedy="name a file that exists") from e
    if path.suffix == ".cedar":
        decoded = text.decode("utf-8", errors="replace")
        if path.parent.name == "calls":  # the folder says what a file decides about
            CallPolicies((*call_files(), (str(path), decoded)))
        else:
            PolicySet((*builtin_files(), (str(path), decoded)), builtin_schema())
    else:
        TrustPolicy.parse(text, path=path, local=SigningKey.load_or_create(settings.keys_dir).verifying)


def _source_text(policies: PolicySet, policy: Policy) -> str:
    """The paragraph of the file that declares the policy; the whole file where that cannot be told."""
    text = dict(policies.files)[policy.source]
    start = text.find(f'@id("{policy.id}")')
    end = text.find("\n@id(", start)
    return (text[start:] if end < 0 else text[start:end]).strip() if start >= 0 else text


def _policy(policy: Policy) -> dict[str, str]:
    keys = ("id", "effect", "reason", "remedy", "source")
    return {key: getattr(policy, key) for key in keys}


def _reasons(verdict: Verdict) -> list[dict[str, str]]:
    return [{"policy": r.policy, "reason": r.reason, "remedy": r.remedy} for r in verdict.reasons]


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for position, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=position == 0)
    return table


def _row(table: Table, *cells: str) -> None:
    table.add_row(*(Text(cell) for cell in cells))  # Text, not markup: names come from files


def _json(body: dict[str, Any]) -> None:
    typer.echo(orjson.dumps(body, option=orjson.OPT_INDENT_2).decode())
