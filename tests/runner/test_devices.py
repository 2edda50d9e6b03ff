"""What computes, and how much of a model goes there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runner.engine.devices import CPU, OVERHEAD, Device, layers_that_fit, placement
from runner.engine.spec import EngineSpec
from runner.gguf import check_file
from tests.runner.conftest import Server

GIB = 1 << 30
HOST = Device("CPU", "a processor", CPU, 8 * GIB, 16 * GIB)


def gpu(free: float) -> Device:
    return Device("CUDA0", "a card", 1, int(free * GIB), 24 * GIB)


@pytest.mark.parametrize(
    ("found", "layers"),
    [
        ([HOST], 0),
        ([HOST, gpu(24)], -1),
        ([gpu(0)], 0),
        ([gpu(0.2)], 0),
        ([gpu(5.5), gpu(5.5)], -1),  # two cards together
    ],
)
def test_a_model_goes_where_its_memory_is(found: list[Device], layers: int) -> None:
    assert layers_that_fit(found, 32, 7 * GIB, GIB) == layers


def test_as_many_layers_go_to_a_device_as_its_memory_takes() -> None:
    half = layers_that_fit([gpu(5)], 32, 7 * GIB, GIB)
    assert 0 < half < 32
    assert half * 8 * GIB / 33 <= 5 * GIB * 0.9 - OVERHEAD
    assert layers_that_fit([gpu(3)], 32, 7 * GIB, GIB) < half


def test_what_a_person_chose_stays(smollm2: Path) -> None:
    weights = [check_file(smollm2)]
    chosen = placement([HOST, gpu(24)], weights, EngineSpec("x", (), context=64, gpu_layers=3))
    assert (chosen.gpu_layers, chosen.words) == (3, "3 of 30 layers on CUDA0 (a card, 24576 of 24576 MiB free)")
    none = placement([HOST, gpu(24)], weights, EngineSpec("x", (), context=64, gpu_layers=0))
    assert none.gpu_layers == 0
    assert "not used" in none.words
    assert placement([HOST, gpu(24)], weights, EngineSpec("x", (), context=64)).gpu_layers == -1
    assert placement([], weights, EngineSpec("x", (), context=64)).gpu_layers == -1  # a library that does not say


def test_the_library_names_its_devices(engine_installed: None) -> None:
    """In a process of its own: the library is loaded by engines only."""
    script = "import json, llama_cpp; from runner.engine.devices import devices; "
    script += "print(json.dumps([[d.is_gpu, d.words(), d.free, d.total] for d in devices(llama_cpp)]))"
    found = json.loads(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout)
    assert any(not is_gpu and words for is_gpu, words, _, _ in found)
    assert all(0 <= free <= total for _, _, free, total in found)


@pytest.mark.slow
def test_status_says_what_computes(server: Server) -> None:
    body = {"model": "ai/smollm2", "prompt": "A", "max_tokens": 1}
    assert server.post("/v1/completions", body).status_code == 200
    assert "ai/smollm2:latest computes on " in server.get("/engines/status").json()["llama.cpp"]
