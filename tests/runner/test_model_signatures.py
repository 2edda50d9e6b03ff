"""Models past the trust policy: signed, pushed, pulled elsewhere; and what nobody trusted has signed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harbourmaster.core.errors import HarbourError
from harbourmaster.core.settings import Settings
from policies.errors import TrustEmpty
from policies.keys import SigningKey
from registry.errors import SignatureMissing
from runner.store import fetch, transfer
from runner.store.package import Parts, package
from runner.store.signing import sign
from runner.store.store import Model, ModelStore
from tests.runner.gguffile import GgufFile
from tests.runner.test_model_transfer import registry

__all__ = ["registry"]  # a fixture


@pytest.fixture
def name(registry: str) -> str:
    return f"{registry}/me/tiny:v1"


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return SigningKey.load_or_create(tmp_path / "publisher")


@pytest.fixture
def published(tmp_path: Path, name: str) -> tuple[ModelStore, Model]:
    file = GgufFile()
    file.data += os.urandom(1 << 20)
    store = ModelStore(tmp_path / "there")
    return store, package(store, Parts((file.write(tmp_path / "m.gguf"),)), name)


@pytest.fixture
def here(settings: Settings, key: SigningKey) -> Settings:
    """A home that trusts the publisher's key for the models under me/."""
    settings.home.mkdir(parents=True)
    (settings.home / "publisher.pub").write_text(key.verifying.pem)
    settings.trust_file.write_text(
        "version: 1\nrules:\n"
        "  - {name: publisher, tier: model, servers: ['127.0.0.1:*/me/*'], keys: [{file: publisher.pub}]}\n"
        "  - {name: servers, tier: built, servers: ['*'], keys: [{local: true}]}\n"
    )
    return settings


def pull(here: Settings, name: str) -> Model:
    return fetch.pull(here, ModelStore(here.home / "models"), name)


def names(here: Settings) -> list[str]:
    return [m.name for m in ModelStore(here.home / "models").all()]


def test_a_signed_model_is_pulled_and_verified(
    published: tuple[ModelStore, Model], here: Settings, name: str, key: SigningKey
) -> None:
    store, model = published
    sign(store, name, key)
    sign(store, name, key)  # again: in place of the first
    transfer.push(store, name)
    assert pull(here, name).id == model.id
    command = [sys.executable, "-m", "harbourmaster", "model", "verify", name, "--json"]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "HM_HOME": str(here.home)}, check=True)
    body = json.loads(done.stdout)
    assert (body["id"], body["rule"]) == (model.id, "publisher")
    mine = ModelStore(here.home / "models")
    assert len(mine.layout.referrers(model.id)) == 1
    mine.remove(name)
    assert mine.all() == []
    assert mine.layout.referrers(model.id) == []


def test_an_unsigned_model_gets_no_name_and_none_of_its_weights_are_fetched(
    published: tuple[ModelStore, Model], here: Settings, name: str
) -> None:
    store, model = published
    transfer.push(store, name)
    with pytest.raises(SignatureMissing):
        pull(here, name)
    assert names(here) == []
    assert not ModelStore(here.home / "models").layout.blobs.has(model.layers["weights"][0].digest)


def test_a_signature_of_another_key_is_refused(
    published: tuple[ModelStore, Model], here: Settings, name: str, tmp_path: Path
) -> None:
    store, _ = published
    sign(store, name, SigningKey.load_or_create(tmp_path / "stranger"))
    transfer.push(store, name)
    with pytest.raises(HarbourError) as refused:
        pull(here, name)
    assert refused.value.code.startswith("signature.")
    assert names(here) == []


def test_a_signature_of_another_model_is_refused(
    published: tuple[ModelStore, Model], here: Settings, name: str, key: SigningKey, tmp_path: Path
) -> None:
    """The bundle of one model is attached to another: its subject says which one was meant."""
    store, model = published
    other = package(store, Parts((GgufFile().write(tmp_path / "other.gguf"),)), "me/other")
    sign(store, "me/other", key)
    [paper] = store.layout.referrers(other.id)
    bundle = store.layout.read_blob(store.layout.read_manifest(paper.digest).layers[0].digest)
    store.layout.add_referrer(model.id, bundle, annotations=paper.annotations)
    transfer.push(store, name)
    with pytest.raises(HarbourError):
        pull(here, name)
    assert names(here) == []


def test_a_model_that_no_rule_names_is_refused_before_anything_is_fetched(here: Settings) -> None:
    with pytest.raises(TrustEmpty):
        pull(here, "127.0.0.1:1/someone/else")


def test_without_rules_for_models_they_come_as_they_are(
    published: tuple[ModelStore, Model], settings: Settings, name: str
) -> None:
    store, model = published
    transfer.push(store, name)
    assert pull(settings, name).id == model.id
