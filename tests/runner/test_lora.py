"""LoRA adapters: packaged with a model, applied when it is loaded, scaled by requests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harbourmaster.core.settings import Settings
from runner.configuration import Configurations, parse_lora
from runner.errors import RequestInvalid
from runner.gguf_write import write
from runner.service import Runner
from runner.store.package import Parts, package
from runner.store.store import ModelStore
from tests.runner.conftest import Server, serve

WIDTH = 576  # of SmolLM2-135M


@pytest.fixture(scope="module")
def adapted(engine_installed: None, smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A home with the starter model as it is, and with an adapter that disturbs its first layer."""
    home = tmp_path_factory.mktemp("lora-home")
    rng = np.random.default_rng(7)
    tensors = {
        "blk.0.attn_q.weight.lora_a": rng.normal(size=(4, WIDTH)).astype(np.float32),
        "blk.0.attn_q.weight.lora_b": rng.normal(size=(WIDTH, 4)).astype(np.float32),
    }
    about = {
        "general.type": "adapter",
        "general.architecture": "llama",
        "adapter.type": "lora",
        "adapter.lora.alpha": 4.0,
    }
    write(home / "lora.gguf", about, tensors)
    write(home / "wrong.gguf", about, {k.replace("attn_q", "nowhere"): v for k, v in tensors.items()})
    store = ModelStore(home / "models")
    for name, loras in (("me/plain", ()), ("me/adapted", (home / "lora.gguf",)), ("me/wrong", (home / "wrong.gguf",))):
        model = package(store, Parts((smollm2,), loras=loras, context_size=256), name)
        Configurations(home / "models" / "configurations.json").change(model, {"threads": 1})
    with serve(home) as server:
        yield server


def likely(server: Server, model: str, **more: Any) -> dict[str, float]:
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1, "temperature": 0}
    answer = server.post("/v1/chat/completions", {**body, "logprobs": True, "top_logprobs": 5, **more})
    assert answer.status_code == 200, answer.text
    [entry] = answer.json()["choices"][0]["logprobs"]["content"]
    return {t["token"]: round(t["logprob"], 3) for t in entry["top_logprobs"]}


@pytest.mark.slow
def test_an_adapter_changes_what_the_model_says_and_its_scale_is_the_request_s(adapted: Server) -> None:
    plain = likely(adapted, "me/plain")
    assert likely(adapted, "me/adapted") != plain
    assert likely(adapted, "me/adapted", lora=[]) == plain
    assert likely(adapted, "me/adapted", lora=[{"id": 0, "scale": 0}]) == plain
    half = likely(adapted, "me/adapted", lora=[{"id": 0, "scale": 0.5}])
    assert half not in (plain, likely(adapted, "me/adapted"))


@pytest.mark.slow
def test_an_adapter_of_another_model_is_an_error_of_the_load(adapted: Server) -> None:
    body = {"model": "me/wrong", "messages": [{"role": "user", "content": "Hi"}]}
    answer = adapted.post("/v1/chat/completions", body)
    assert answer.status_code == 500
    assert "adapter" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "value", ["x", [{"id": "0"}], [{"id": 0, "scale": "1"}], [{"id": 0}, {"id": 0}], [{"id": 0, "scale": 1e9}]]
)
def test_scales_that_are_none_are_refused(value: Any) -> None:
    with pytest.raises(RequestInvalid):
        parse_lora(value)


def test_an_adapter_that_is_not_there_is_refused(settings: Settings, smollm2: Path) -> None:
    runner = Runner.open(settings)
    package(runner.store, Parts((smollm2,)), "me/plain")
    with pytest.raises(RequestInvalid, match="0 adapters"):
        runner.plan("me/plain", lora=[{"id": 0}])
