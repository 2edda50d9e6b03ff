"""Sources of kind git: one commit, its dependencies locked, its own code built without a network."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from gitproject import ADDRESS, PROJECT, SERVER, entry_at, git

from harbourmaster.core.settings import Settings
from policies.policy_set import PolicySet
from policies.trust import TrustPolicy
from registry.build.errors import BuildFailed, LockMissing
from registry.build.gitsource import newest_commit, tree
from registry.locker import lock
from registry.locks import BUILD_LOCK, PYTHON_LOCK
from registry.lookup import git as git_lookup
from registry.lookup.errors import LookupMissing, LookupUnavailable, LookupUnusable
from registry.oci.layout import OciLayout
from registry.pipeline import build_all
from registry.schema import load_entry
from registry.target import target_of_entry
from registry.trial import try_calls
from registry.verify import Verifier
from sandbox.engine import Engine


def test_a_tree_is_that_of_the_commit_and_not_of_the_branch(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    (repository / "server" / "ahoy.py").write_text("raise SystemExit('another one')\n")
    git(repository, "commit", "--quiet", "--all", "--message=Two")

    with tarfile.open(fileobj=io.BytesIO(tree(ADDRESS, commit, "server"))) as tar:
        member = tar.extractfile("ahoy.py")
        assert member is not None
        assert member.read().decode() == SERVER
    assert newest_commit(ADDRESS) == git(repository, "rev-parse", "HEAD") != commit


def test_a_commit_that_is_not_there_is_missing(repository: Path) -> None:
    with pytest.raises(LookupMissing):
        tree(ADDRESS, "7" * 40)


def test_a_folder_that_is_not_there_is_a_failed_build(repository: Path) -> None:
    with pytest.raises(BuildFailed, match="folder"):
        raise_with_remedy(lambda: tree(ADDRESS, git(repository, "rev-parse", "HEAD"), "elsewhere"))


def raise_with_remedy(ask: object) -> None:
    try:
        ask()  # type: ignore[operator]
    except BuildFailed as e:
        raise BuildFailed(f"{e.message} {e.remedy}", remedy=e.remedy) from e


def test_an_address_where_nobody_answers_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "gitconfig"
    config.write_text(f'[url "http://127.0.0.1:9/"]\n\tinsteadOf = {ADDRESS}\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))

    with pytest.raises(LookupUnavailable):
        tree(ADDRESS, "7" * 40)


def test_the_project_file_tells_name_program_and_runtime(repository: Path) -> None:
    found = git_lookup.look_up(ADDRESS, directory="server")

    assert (found.name, found.runtime, found.command) == ("ahoy", "python", ("mcp-server-ahoy",))
    assert found.source["commit"] == git(repository, "rev-parse", "HEAD")
    with pytest.raises(LookupUnusable, match="neither"):
        git_lookup.look_up(ADDRESS)


def test_dependencies_that_are_made_up_at_build_time_are_refused(repository: Path, tmp_path: Path) -> None:
    project = repository / "server" / "pyproject.toml"
    project.write_text(PROJECT.replace("dependencies = []\n", 'dynamic = ["dependencies"]\n'))
    git(repository, "commit", "--quiet", "--all", "--message=Dynamic")
    folder = entry_at(tmp_path / "servers", git(repository, "rev-parse", "HEAD"))

    with pytest.raises(LookupUnusable, match="pinned"):
        lock(load_entry(folder), folder)


def test_a_git_source_without_its_locks_is_not_built(repository: Path, tmp_path: Path) -> None:
    from registry.build.builder import Inputs

    folder = entry_at(tmp_path / "servers", git(repository, "rev-parse", "HEAD"))

    with pytest.raises(LockMissing, match=PYTHON_LOCK):
        Inputs.read(load_entry(folder), folder.parent)


@pytest.mark.engine
@pytest.mark.slow
def test_a_commit_is_locked_built_without_a_network_papered_and_called(
    repository: Path, seeded: Settings, engine: Engine, tmp_path: Path
) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    folder = entry_at(tmp_path / "servers", commit)
    entry = load_entry(folder)
    assert {path.name for path in lock(entry, folder)} == {PYTHON_LOCK, BUILD_LOCK}

    result = build_all(seeded, engine, [entry], root=folder.parent)["ahoy"]

    assert result.error is None, result.error
    assert result.version == commit[:12]
    verifier = Verifier(OciLayout(seeded.oci_dir), engine, TrustPolicy.load(seeded), PolicySet.builtin())
    evidence = verifier.verify(target_of_entry(entry), deep=True)
    assert evidence.provenance is not None
    sources = evidence.provenance.predicate["buildDefinition"]["resolvedDependencies"]
    assert {"uri": f"git+{ADDRESS}@{commit}", "digest": {"gitCommit": commit}} in sources
    assert evidence.sbom is not None
    assert "mcp-server-ahoy" in {c["name"] for c in evidence.sbom.predicate["components"]}
    (outcome,) = try_calls(engine, entry, result.image_id, result.manifest, timeout_s=60)
    assert outcome.passed, outcome


NODE_PROJECT = """{"name": "mcp-server-wave", "version": "1.0.0", "license": "MIT", "bin": {"mcp-server-wave": "index.js"}, "scripts": {"install": "exit 1"}}
"""
NODE_SERVER = """#!/usr/bin/env node
require("readline").createInterface({input: process.stdin}).on("line", (line) => {
  const said = JSON.parse(line);
  if (said.id === undefined) return;
  let result = {content: [{type: "text", text: "waves"}]};
  if (said.method === "initialize")
    result = {protocolVersion: said.params.protocolVersion, capabilities: {tools: {}}, serverInfo: {name: "wave", version: "1"}};
  if (said.method === "tools/list")
    result = {tools: [{name: "wave", description: "Waves.", inputSchema: {type: "object"}}]};
  process.stdout.write(JSON.stringify({jsonrpc: "2.0", id: said.id, result}) + "\\n");
});
"""


def node_entry(repository: Path, root: Path, **files: str) -> Path:
    """A commit with a Node package at the top, and its entry."""
    for name, text in files.items():
        (repository / name.replace("__", ".")).write_text(text)
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "--message=Node")
    folder = entry_at(root, git(repository, "rev-parse", "HEAD"))
    text = (
        (folder / "server.yaml")
        .read_text()
        .replace("  directory: server\n", "")
        .replace("runtime: python", "runtime: node")
    )
    text = (
        text.replace("mcp-server-ahoy", "mcp-server-wave")
        .replace("tool: greet", "tool: wave")
        .replace("contains: ahoy", "contains: waves")
    )
    (folder / "server.yaml").write_text(text)
    return folder


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.npm
def test_a_node_package_runs_as_it_is_in_the_repository_and_nothing_of_it_runs_before(
    repository: Path, seeded: Settings, engine: Engine, tmp_path: Path
) -> None:
    """Its install script would fail; and one that needs a compile step says so."""
    uncompiled = NODE_PROJECT.replace("index.js", "dist/index.js")
    folder = node_entry(repository, tmp_path / "servers", package__json=uncompiled, index__js=NODE_SERVER)
    lock(load_entry(folder), folder)
    result = build_all(seeded, engine, [load_entry(folder)], root=folder.parent)["ahoy"]
    assert result.error is not None
    assert "compile step" in result.error.message

    folder = node_entry(repository, tmp_path / "servers", package__json=NODE_PROJECT)
    entry = load_entry(folder)
    result = build_all(seeded, engine, [entry], root=folder.parent)["ahoy"]

    assert result.error is None, result.error
    (outcome,) = try_calls(engine, entry, result.image_id, result.manifest, timeout_s=60)
    assert outcome.passed, outcome
