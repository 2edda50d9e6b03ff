"""One commit of a git repository as a tar of its files.  By the git program, without submodules, hooks or filters.

The commit's hash decides: whatever the server sends, the tree is that commit's or nothing.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from harbourmaster.core.errors import HarbourError
from registry.build.errors import BuildFailed
from registry.lookup.errors import LookupMissing
from registry.lookup.tools import ToolFailed, run

MAX_TREE_BYTES = 256 << 20  # ours: a server is code; what is larger carries its data elsewhere
# ext:: runs commands; file and the like are only followed where the operator's own configuration leads there
_OPTIONS = ("-c", "protocol.ext.allow=never", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false")


def tree(repository: str, commit: str, directory: str = "") -> bytes:
    """The tar.  Raises ``LookupUnavailable``, ``LookupMissing``, ``BuildFailed``."""
    with tempfile.TemporaryDirectory(prefix="hm-git-") as place:
        git = _Git(Path(place), repository)
        git.fetch(commit)
        return git.archive(commit, directory)


def newest_commit(repository: str) -> str:
    """The commit at the tip of the repository's default branch."""
    with tempfile.TemporaryDirectory(prefix="hm-git-") as place:
        lines = _Git(Path(place), repository).run("ls-remote", "--", repository, "HEAD").decode().split()
    if not lines:
        raise LookupMissing(f"{repository} has no default branch", remedy="name a commit")
    return lines[0]


class _Git:
    def __init__(self, place: Path, repository: str) -> None:
        if shutil.which("git") is None:
            raise BuildFailed("git is not installed", remedy="install git to build from repositories")
        self._place, self._repository = place, repository
        self.run("init", "--quiet", "--bare", ".")

    def fetch(self, commit: str) -> None:
        """The one commit where the server gives it out by hash; else all branches and tags, which may hold it."""
        try:
            self.run("fetch", "--quiet", "--no-tags", "--depth=1", "--", self._repository, commit)
        except (BuildFailed, LookupMissing):
            everything = ("+refs/heads/*:refs/remotes/it/*", "+refs/tags/*:refs/tags/*")
            self.run("fetch", "--quiet", "--no-tags", "--", self._repository, *everything)
        try:
            found = self.run("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}").decode().strip()
        except HarbourError:
            found = ""
        if found != commit:
            raise LookupMissing(
                f"{self._repository} has no commit {commit}", remedy="push it to a branch or tag, or name another"
            )

    def archive(self, commit: str, directory: str) -> bytes:
        what = f"{commit}:{directory}" if directory else commit
        data = self.run("archive", "--format=tar", what)
        if len(data) > MAX_TREE_BYTES:
            raise BuildFailed(
                f"{self._repository} has over {MAX_TREE_BYTES} bytes at {commit}", remedy="name a directory in it"
            )
        return data

    def run(self, *arguments: str) -> bytes:
        try:
            return run(
                f"the repository {self._repository}",
                ["git", *_OPTIONS, *arguments],
                cwd=self._place,
                environ=_environment(os.environ),
            )
        except ToolFailed as e:
            raise BuildFailed(f"{self._repository}: {e}", remedy="check the address, the commit and the folder") from e


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The operator's own proxies, mirrors and credentials count; nobody is asked for a password."""
    kept = {name: value for name, value in environ.items() if not name.startswith("GIT_") or name in _KEPT}
    return kept | {"GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1", "LC_ALL": "C"}


_KEPT = frozenset(
    (
        "GIT_CONFIG_GLOBAL",
        "GIT_CONFIG_SYSTEM",
        "GIT_SSL_CAINFO",
        "GIT_SSL_CAPATH",
        "GIT_PROXY_SSL_CAINFO",
        "GIT_ASKPASS",
    )
)
