"""Many entries to images with papers, some at a time; what is up to date is left alone, what fails stops nobody else."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from docker.errors import APIError

from harbourmaster.core.errors import HarbourError
from harbourmaster.core.settings import Settings
from policies.keys import SigningKey
from registry import survey
from registry.build.bases import Progress, silent
from registry.build.builder import BuildContext, Inputs, build, current
from registry.build.container import sweep
from registry.build.errors import BuildFailed
from registry.build.network import detect
from registry.build.records import BuildRecord
from registry.build.underway import BUILDS
from registry.papers import are_attached, paper
from registry.programs import Part
from registry.schema import Entry
from registry.toolset import is_toolset, parts, require_fixed_programs, set_digest
from sandbox.engine import Engine
from sandbox.profile import Profile


@dataclass(frozen=True)
class BuildResult:
    """One server's outcome: an image with papers, or the error.  ``fresh``: something had to be done."""

    name: str
    version: str
    manifest: str = ""  # digest
    image_id: str = ""  # in the engine
    fresh: bool = False
    error: HarbourError | None = None
    parts: Mapping[str, Part] | None = None  # by name (registry.toolset), where each tool has an image of its own


def build_all(
    settings: Settings,
    engine: Engine,
    entries: Iterable[Entry],
    progress: Progress = silent,
    *,
    environ: Mapping[str, str] | None = None,
    root: Path | None = None,
    refresh: bool = False,
) -> dict[str, BuildResult]:
    """Build and paper ``entries``, ``settings.build_jobs`` at a time; results by name, in the order given.

    ``environ``: where CA bundles, proxies and index addresses are read from (the process's own by default).  ``root``:
    the folder of entries, ``settings.servers_dir`` by default.  ``refresh``: make the base images anew first.
    Raises nothing for a single server's failure.
    """
    network = detect(os.environ if environ is None else environ)
    context = BuildContext.create(settings, engine.client, network, progress)
    if refresh:
        context.bases.forget()
    run = _Run(context, engine, root or settings.servers_dir)
    entries = list(entries)
    results = {entry.name: run.existing(entry) for entry in entries}
    waiting = [entry for entry in entries if results[entry.name] is None]
    for entry in waiting:
        progress(entry.name, "waiting", 0.0)
    if waiting:
        sweep(engine.client)
        BUILDS.begin()
        with ThreadPoolExecutor(settings.build_jobs, thread_name_prefix="build") as pool:
            try:
                results |= dict(zip([e.name for e in waiting], pool.map(run.make, waiting), strict=True))
            except BaseException:  # Ctrl-C: nobody waits minutes for builds that nobody wants
                pool.shutdown(wait=False, cancel_futures=True)
                BUILDS.end()
                raise
    return {name: result for name, result in results.items() if result is not None}


class _Run:
    def __init__(self, context: BuildContext, engine: Engine, root: Path) -> None:
        self._context, self._engine, self._root = context, engine, root
        self._key = SigningKey.load_or_create(context.settings.keys_dir)
        self._profile = Profile.load()
        self._records = context.records.all()
        self._in_engine = self._engine_images() if self._records else frozenset()

    def existing(self, entry: Entry) -> BuildResult | None:
        """The result when there is nothing to do; None when there is, problems included."""
        if is_toolset(entry):
            return self._toolset(entry, [self._existing_part(part, name) for name, part in parts(entry).items()])
        try:
            record = self._record(entry)
            if record is None or not self._is_papered(entry, record):
                return None
        except (HarbourError, OSError):
            return None
        image_id = next((i for i in (record.config, record.manifest) if i in self._in_engine), "")
        return self._result(entry, record, image_id, fresh=False) if image_id else None

    def _existing_part(self, part: Entry, name: str) -> BuildResult | None:
        try:
            record = survey.current(part, self._root, self._context, self._records, name)
            if record is None or not survey.is_papered(self._context.layout, record, self._key, name):
                return None
        except (HarbourError, OSError):
            return None
        image_id = next((i for i in (record.config, record.manifest) if i in self._in_engine), "")
        return self._result(part, record, image_id, fresh=False) if image_id else None

    def _toolset(self, entry: Entry, found: list[BuildResult | None]) -> BuildResult | None:
        """Several images as one result; None when one of them is missing."""
        results = [result for result in found if result is not None]
        if len(results) < len(found):
            return None
        manifest, image_id = set_digest(r.manifest for r in results), set_digest(r.image_id for r in results)
        images = {name: (r.manifest, r.image_id) for name, r in zip(parts(entry), results, strict=True)}
        fresh = any(r.fresh for r in results)
        return BuildResult(entry.name, entry.version, manifest, image_id, fresh, parts=images)

    def _make_toolset(self, entry: Entry) -> BuildResult:
        results = [self._make_part(entry, part, name) for name, part in parts(entry).items()]
        made = self._toolset(entry, list(results))
        assert made is not None
        return made

    def _make_part(self, entry: Entry, part: Entry, name: str) -> BuildResult:
        built, record = survey.fetch(part, self._root, self._context, name)
        require_fixed_programs(entry, part, self._context.layout, built.manifest)
        if not survey.is_papered(self._context.layout, record, self._key, name):
            record = survey.survey_part(part, built, record, self._context, self._key, name)
        return self._result(part, record, built.image_id, fresh=True)

    def make(self, entry: Entry) -> BuildResult:
        try:
            if is_toolset(entry):
                return self._make_toolset(entry)
            surveyed = entry.tier == "community"
            built, record = (
                survey.fetch(entry, self._root, self._context)
                if surveyed
                else build(entry, self._context, root=self._root)
            )
            if not self._is_papered(entry, record):
                make = survey.survey if surveyed else paper
                record = make(entry, built, record, self._context, self._engine, self._profile, self._key)
        except HarbourError as e:
            return self._failed(entry, e)
        except (APIError, OSError) as e:
            return self._failed(entry, BuildFailed(f"{entry.name}: {e}", remedy="run: hm doctor", server=entry.name))
        self._context.progress(entry.name, "ready", 1.0)
        return self._result(entry, record, built.image_id, fresh=True)

    def _record(self, entry: Entry) -> BuildRecord | None:
        if entry.tier == "community":
            return survey.current(entry, self._root, self._context, self._records)
        return current(Inputs.read(entry, self._root), self._context, self._records)

    def _is_papered(self, entry: Entry, record: BuildRecord) -> bool:
        check = survey.is_papered if entry.tier == "community" else are_attached
        return check(self._context.layout, record, self._key)

    def _failed(self, entry: Entry, error: HarbourError) -> BuildResult:
        self._context.progress(entry.name, f"failed: {error.code}", 1.0)
        return BuildResult(entry.name, entry.version, error=error)

    def _result(self, entry: Entry, record: BuildRecord, image_id: str, *, fresh: bool) -> BuildResult:
        return BuildResult(entry.name, entry.version, record.manifest, image_id, fresh)

    def _engine_images(self) -> frozenset[str]:
        try:
            return frozenset(self._engine.client.api.images(quiet=True))
        except (APIError, OSError):
            return frozenset()
