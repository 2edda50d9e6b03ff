"""Stores in a home of each test's own, and an image with a shell beside the echo server."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from harbourmaster.core.secrets import SecretId, SecretStore
from harbourmaster.core.settings import Settings
from sandbox.engine import Engine
from sandbox.reaper import ALL, list_sandboxes, reap
from tests.fixtures.images import ECHO_SOURCE, build_image, remove_loaded

TOKEN = SecretId("alpha", "alpha.token")
CANARY = "cnry-7f3a'\"\\%s $HOME é\tend"  # everything a shell, JSON or printf could trip over

MakeStore = Callable[..., SecretStore]


@pytest.fixture
def make_store(settings: Settings) -> MakeStore:
    """``make_store(passphrase="x")``: a store of this home; no keyring unless given."""

    def make(passphrase: str = "", **more: Any) -> SecretStore:
        changed = {"secrets_passphrase": SecretStr(passphrase), "secrets_backend": more.pop("backend", "auto")}
        options: dict[str, Any] = {"environ": {}, "keyring": lambda: None} | more
        return SecretStore(settings.model_copy(update=changed), **options)

    return make


@pytest.fixture
def store(make_store: MakeStore) -> SecretStore:
    return make_store()


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    engine = Engine.connect(settings)
    yield engine
    left = [c["Names"] for c in list_sandboxes(engine)]
    reap(engine, owner=ALL)
    engine.close()
    assert left == []


@pytest.fixture(scope="session")
def shell_image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The echo server, and this machine's /bin/sh with its libraries."""
    engine = Engine.connect(Settings.load(home=tmp_path_factory.mktemp("images")))
    said = subprocess.run(["ldd", "/bin/sh"], check=True, capture_output=True, text=True).stdout
    libraries = re.findall(r"(/\S+) \(0x", said)
    files = {path.lstrip("/"): (Path(path).read_bytes(), 0o755) for path in ["/bin/sh", *libraries]}
    yield build_image(engine, "hm-test-secrets", ECHO_SOURCE, files=files, Entrypoint=[], Cmd=["/server"])  # type: ignore[arg-type]
    remove_loaded(engine, "hm-test-secrets")
    engine.close()
